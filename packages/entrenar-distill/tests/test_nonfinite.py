"""Losses that are not finite: skipped, counted, shown, and too many of them stop the run."""

import json
import re

import pytest

from entrenar_common.errors import InterruptedRun
from entrenar_common.progress import NullProgress
from entrenar_core import models
from entrenar_distill.cli import main
from entrenar_distill.config import resolve
from entrenar_distill.inputs import read_inputs

pytestmark = pytest.mark.tier2

EPOCH = {"max_steps": None, "epochs": 1, "batch_size": 1}


def lines(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture
def training_document(write_config):
    """The name of a file that is trained on, not held out."""
    config = resolve(write_config())
    return read_inputs(config, progress=NullProgress()).train.names[5].rpartition("/")[2]


def test_a_step_that_is_lost_is_skipped_counted_and_shown(
    poisoned, training_document, write_config, train, tmp_path
):
    report = train(write_config(**poisoned(training_document), training=EPOCH))
    skipped = [line for line in lines(tmp_path / "out") if line.get("skipped")]
    assert 1 <= len(skipped) <= 2  # the token is an input of one row, a target at most of another
    assert report.skipped_steps == len(skipped)
    assert "optimizer steps were skipped" in (tmp_path / "out" / "report.md").read_text()
    assert skipped[0]["loss"] is None
    assert training_document in skipped[0]["rows"]


def test_the_steps_after_a_lost_one_go_on_from_the_weights_before_it(
    poisoned, training_document, write_config, train, tmp_path
):
    train(write_config(**poisoned(training_document), training=EPOCH))
    found = lines(tmp_path / "out")
    at = next(i for i, line in enumerate(found) if line.get("skipped"))
    assert all(line["loss"] is not None for line in found[at + 2 :])
    tensors = models.load(tmp_path / "out").named_parameters()
    assert all((abs(tensor.data) < 10).all() for tensor in tensors.values())


def test_a_lost_step_survives_a_resume_in_the_counts(
    poisoned, training_document, write_config, train, tmp_path, outcome, stopped_at
):
    config = write_config(**poisoned(training_document), training=EPOCH)
    straight = train(config, output=tmp_path / "straight")
    assert straight.skipped_steps
    with pytest.raises(InterruptedRun), stopped_at(20):
        train(config)
    train(config, resume="auto")
    assert outcome(tmp_path / "out") == outcome(tmp_path / "straight")


def run_to_error(path, capsys):
    code = main.main(["run", "-q", "--config", str(path)], standalone_mode=False)
    return code, capsys.readouterr().err


def test_twenty_lost_steps_in_a_row_stop_the_run(poisoned, world, write_config, capsys, tmp_path):
    names = sorted(path.name for path in (world / "text").iterdir())
    sections = poisoned(*names, times=6)
    path = write_config(**sections, training={"max_steps": 100}, output={"checkpoint_every": 1})
    code, shown = run_to_error(path, capsys)
    assert code == 30
    assert "20 steps in a row" in shown
    assert re.search(r"at step 20, rows [\d, ]+ of the dataset, from .*\.txt", shown)
    assert len(lines(tmp_path / "out")) == 20
    assert not (tmp_path / "out" / "model.safetensors").exists()


@pytest.mark.tier3
def test_the_last_good_checkpoint_is_named(
    poisoned, training_document, write_config, capsys, tmp_path
):
    """One row in about fifty is bad: over many epochs that is more than one step in a hundred."""
    path = write_config(
        **poisoned(training_document),
        training={"max_steps": 3000, "batch_size": 1},
        output={"checkpoint_every": 300},
    )
    code, shown = run_to_error(path, capsys)
    assert code == 30
    assert re.search(r"[1-9]\d of the last 1000 steps", shown)
    named = re.search(r"last good checkpoint: (\S+)", shown)[1]
    newest = max((tmp_path / "out" / "checkpoints" / "student").glob("step-*"))
    assert named == str(newest)


def test_a_student_that_starts_as_nan_is_stopped_and_never_saved(
    teacher, write_config, capsys, tmp_path
):
    model = models.load(teacher)
    model.named_parameters()["model.norm.weight"].data[3] = float("nan")
    models.save(model, teacher)
    path = write_config(student={"model_id": str(teacher)})
    code, shown = run_to_error(path, capsys)
    assert code == 30
    assert "model.norm.weight are not finite" in shown
    assert not list((tmp_path / "out" / "checkpoints" / "student").glob("step-*"))
