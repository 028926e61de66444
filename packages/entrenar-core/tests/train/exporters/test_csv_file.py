"""metrics.csv says what metrics.jsonl says, whatever happens to the run."""

import csv

import pytest

from entrenar_common.errors import FormatError, StorageError
from entrenar_core.train.callbacks import Run
from entrenar_core.train.exporters.csv_file import CsvLog

pytestmark = pytest.mark.tier2


def rows(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def assert_says(path, log):
    """Every figure of the log is a cell that reads as the same number, and no other cell is."""
    found = rows(path)
    assert len(found) == len(log)
    for row, record in zip(found, log, strict=True):
        filled = {name: cell for name, cell in row.items() if cell != ""}
        assert filled.pop("phase") == record["phase"]
        assert {name: float(cell) for name, cell in filled.items()} == {
            name: value for name, value in record.items() if name != "phase" and value is not None
        }


def begin(path, phase="training", first_step=0):
    log = CsvLog(path)
    log.started(Run(phase, first_step, 9, 1.0, 1, {}, 0, lambda _notice: None))
    return log


def test_the_table_has_every_figure_of_the_log(training, tmp_path):
    path = tmp_path / "new" / "metrics.csv"
    training.run(CsvLog(path))
    assert_says(path, training.log)
    assert list(rows(path)[0])[:3] == ["phase", "step", "loss"]
    assert [row["held_out_loss"] != "" for row in rows(path)] == [False, False, True] * 2


def test_a_run_that_crashed_continues_its_table(training, tmp_path):
    path = tmp_path / "metrics.csv"
    training.crash(5, CsvLog(path))  # after the checkpoint of step 4
    assert len(rows(path)) == 5
    training.run(CsvLog(path), resume=True)
    assert_says(path, training.log)


def test_phases_are_in_order_again_when_an_earlier_one_goes_on(tmp_path):
    path = tmp_path / "a.csv"
    for phase, first in (("student", 0), ("control", 0), ("student", 1)):
        log = begin(path, phase, first)
        for step in (first + 1, first + 2):
            log.step({"phase": phase, "step": step, "loss": 0.5})
    assert [(row["phase"], row["step"]) for row in rows(path)] == [
        ("control", "1"), ("control", "2"), ("student", "1"), ("student", "2"), ("student", "3"),
    ]  # fmt: skip


def test_a_column_that_comes_later_is_empty_before(tmp_path):
    path = tmp_path / "a.csv"
    log = begin(path)
    log.step({"phase": "training", "step": 1, "loss": 1.0})
    log.step({"phase": "training", "step": 2, "loss": 1.0, "sqnr_db": {"head": 3.5, "up": 4.0}})
    log = begin(path, first_step=2)
    log.step({"phase": "training", "step": 3, "loss": 1.0, "skipped": True})
    assert path.read_text() == (
        "phase,step,loss,sqnr_db/head,sqnr_db/up,skipped\n"
        "training,1,1.0,,,\ntraining,2,1.0,3.5,4.0,\ntraining,3,1.0,,,true\n"
    )


def test_what_is_not_finite_is_empty_and_text_stays_on_its_line(tmp_path):
    path = tmp_path / "a.csv"
    record = {"phase": "training", "step": 1, "loss": float("nan"), "norm": float("inf")}
    begin(path).step({**record, "rows": 'of "a",\nb'})
    assert rows(path) == [
        {"phase": "training", "step": "1", "loss": "", "norm": "", "rows": r'of "a",\nb'}
    ]


def test_a_row_that_was_cut_off_is_dropped(tmp_path):
    path = tmp_path / "a.csv"
    log = begin(path)
    for step in (1, 2):
        log.step({"phase": "training", "step": step, "loss": 0.5})
    path.write_bytes(path.read_bytes()[:-3])
    begin(path, first_step=2)
    assert path.read_text() == "phase,step,loss\ntraining,1,0.5\n"


@pytest.mark.parametrize("content", ["hello", "a,b\n1,2\n", "phase,step\nx\n", b"\xff\xfe"])
def test_a_file_that_is_not_such_a_table_is_refused_and_kept(training, tmp_path, content):
    path = tmp_path / "a.csv"
    content = content if isinstance(content, bytes) else content.encode()
    path.write_bytes(content)
    with pytest.raises(FormatError, match="not a line of a training's table"):
        training.run(CsvLog(path))
    assert path.read_bytes() == content
    assert not (training.folder / "metrics.jsonl").exists()


def test_a_folder_that_cannot_be_written_is_found_before_the_first_step(training, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError):
        training.run(CsvLog(tmp_path / "file" / "metrics.csv"))
    assert not (training.folder / "metrics.jsonl").exists()
