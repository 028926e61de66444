"""Event files, read by TensorBoard's own reader."""

import math

import numpy as np
import pytest

from entrenar_common.errors import StorageError
from entrenar_core.train.callbacks import Callback, Notice
from entrenar_core.train.exporters.figures import figures
from entrenar_core.train.exporters.tensorboard import TensorBoard


@pytest.fixture
def read():
    """The scalars of a folder, by tag as {step: value}, and the texts, as {(tag, step): text}."""
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing import plugin_event_accumulator
    from tensorboard.util import tensor_util

    def of(folder):
        found = plugin_event_accumulator.EventAccumulator(str(folder)).Reload()
        scalars, texts = {}, {}
        for tag in found.Tags()["tensors"]:
            plugin = found.SummaryMetadata(tag).plugin_data.plugin_name
            for event in found.Tensors(tag):
                value = tensor_util.make_ndarray(event.tensor_proto).item()
                if plugin == "scalars":
                    scalars.setdefault(tag, {})[event.step] = value
                else:
                    assert plugin == "text"
                    texts[tag, event.step] = value.decode()
        return scalars, texts

    return of


def assert_says(scalars, log):
    wanted = {}
    for record in log:
        for tag, value in figures(record).items():
            wanted.setdefault(tag, {})[record["step"]] = float(np.float32(value))
    assert scalars == wanted


@pytest.mark.parity
@pytest.mark.filterwarnings("ignore")
class TestBesideTensorBoard:
    def test_every_figure_of_the_log_is_a_scalar_of_its_step(self, training, tmp_path, read):
        training.run(TensorBoard(tmp_path / "events"))
        scalars, texts = read(tmp_path / "events" / "training")
        assert_says(scalars, training.log)
        assert scalars["held_out_loss"].keys() == {3, 6}
        assert '"learning_rate": 0.1' in texts["settings", 0]

    def test_steps_that_are_taken_again_replace_those_of_the_crash(self, training, tmp_path, read):
        training.crash(5, TensorBoard(tmp_path / "events"))
        training.run(TensorBoard(tmp_path / "events"), resume=True)
        scalars, _ = read(tmp_path / "events" / "training")
        assert_says(scalars, training.log)

    def test_a_record_that_was_cut_off_spoils_no_other(self, training, tmp_path, read):
        training.crash(5, TensorBoard(tmp_path / "events"))
        (file,) = (tmp_path / "events" / "training").iterdir()
        file.write_bytes(file.read_bytes()[:-5])
        training.run(TensorBoard(tmp_path / "events"), resume=True)
        assert_says(read(tmp_path / "events" / "training")[0], training.log)

    def test_a_loss_that_is_not_finite_stays_so(self, training, tmp_path, read):
        class Lost(Callback):
            def started(self, run):
                board.step({"phase": "training", "step": 9, "loss": math.nan, "norm": math.inf})

        board = TensorBoard(tmp_path / "events")
        training.run(board, Lost())
        scalars, _ = read(tmp_path / "events" / "training")
        assert math.isnan(scalars["loss"][9])
        assert scalars["norm"][9] == math.inf

    def test_notices_are_texts(self, training, tmp_path, read):
        class Notices(Callback):
            def started(self, run):
                run.notify(Notice("data-stall", 2, "slöw"))

        training.run(TensorBoard(tmp_path / "events"), Notices())
        _, texts = read(tmp_path / "events" / "training")
        assert texts["notices/data-stall", 2] == "warning: slöw"


@pytest.mark.tier2
def test_names_of_files_sort_in_the_order_in_which_they_were_begun(training, tmp_path):
    for _ in range(3):  # within one second
        training.run(TensorBoard(tmp_path))
    found = sorted((tmp_path / "training").iterdir(), key=lambda path: path.stat().st_mtime_ns)
    assert found == sorted(found)
    assert len(found) == 3
    assert all(path.name.startswith("events.out.tfevents.") for path in found)


@pytest.mark.tier2
def test_a_folder_that_cannot_be_written_is_found_before_the_first_step(training, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError):
        training.run(TensorBoard(tmp_path / "file" / "events"))
    assert not (training.folder / "metrics.jsonl").exists()
