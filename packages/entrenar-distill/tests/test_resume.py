"""Interrupted runs: saved, resumed, and at the end equal to those that were not."""

import itertools
import json
import os
import signal
import time

import pytest

from entrenar_common.errors import CheckpointError, InterruptedRun, RefusedError
from entrenar_core.io import files
from entrenar_distill import causal, measure, pipeline
from entrenar_distill.cli import main

pytestmark = pytest.mark.tier2

THOROUGH = {
    "training": {
        "max_steps": None,
        "epochs": 3,
        "batch_size": 4,
        "gradient_accumulation": 3,
        "evaluate_every": 3,
    },
    "output": {"checkpoint_every": 2},
    "control": True,
}
"""Several epochs, accumulation over their ends, evaluations, a control."""
STEPS = 10


@pytest.fixture
def thorough(write_config):
    return write_config(**THOROUGH)


@pytest.fixture(scope="module")
def straight(make_config, tmp_path_factory, train, outcome):
    """What the thorough run ends with when nobody interrupts it."""
    folder = tmp_path_factory.mktemp("straight")
    report = train(make_config(folder, **THOROUGH))
    assert report.steps == STEPS
    return outcome(folder / "out")


def in_process(capsys, *args):
    code = main.main(["run", "-q", *map(str, args)], standalone_mode=False)
    printed = capsys.readouterr()
    return code, printed.out, printed.err


# --- signals ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("number", "step"),
    [
        (signal.SIGTERM, 1),
        (signal.SIGINT, 3),  # a step with an evaluation
        (signal.SIGHUP, STEPS),  # the student's last: the control's first is finished too
        (signal.SIGTERM, STEPS + 4),
    ],
)
def test_a_signal_ends_the_step_saves_and_exits_75(
    thorough, straight, stopped_at, capsys, tmp_path, outcome, train, step, number
):
    with stopped_at(step, number):
        code, _, shown = in_process(capsys, "--config", thorough)
    assert code == 75
    assert "error[E-INTERRUPTED]: stopped" in shown
    assert "hint: go on with --resume auto" in shown
    train(thorough, resume="auto")
    assert outcome(tmp_path / "out") == straight


def test_a_run_can_be_stopped_at_every_step(
    thorough, straight, stopped_at, train, tmp_path, outcome
):
    for _ in range(30):
        try:
            with stopped_at(1):
                train(thorough, resume="auto")
            break
        except InterruptedRun:
            continue
    assert outcome(tmp_path / "out") == straight


def test_a_signal_while_the_models_are_measured_leaves_nothing_to_train(
    thorough, straight, train, tmp_path, outcome, monkeypatch
):
    def score(*args, **kwargs):
        os.kill(os.getpid(), signal.SIGTERM)
        return original(*args, **kwargs)

    original = measure.score
    with monkeypatch.context() as patch:
        patch.setattr(measure, "score", score)
        with pytest.raises(InterruptedRun, match="while measuring"):
            train(thorough)
    assert not (tmp_path / "out" / "report.json").exists()
    train(thorough, resume="auto")
    assert outcome(tmp_path / "out") == straight


def test_a_second_interrupt_does_not_wait(write_config, capsys, monkeypatch):
    def evaluate(*_args):
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(60)

    monkeypatch.setattr(causal, "held_out_loss", evaluate)
    path = write_config(training={"evaluate_every": 1})
    started = time.monotonic()
    assert in_process(capsys, "--config", path)[0] == 130
    assert time.monotonic() - started < 30


@pytest.mark.parametrize(
    "distillation", [{"loss": "jsd", "beta": 0.3, "top_k": 5}, {"loss": "mse"}]
)
def test_a_run_with_another_loss_goes_on_to_the_bit(
    write_config, stopped_at, train, tmp_path, outcome, distillation
):
    path = write_config(distillation=distillation)
    train(path, output=tmp_path / "straight")
    with pytest.raises(InterruptedRun), stopped_at(3):
        train(path)
    train(path, resume="auto")
    assert outcome(tmp_path / "out") == outcome(tmp_path / "straight")


# --- going back and going on ------------------------------------------------------------------


@pytest.mark.parametrize("phase", ["student", "control"])
def test_going_back_to_a_checkpoint_ends_with_the_same(
    write_config, straight, train, tmp_path, outcome, phase
):
    output = THOROUGH["output"] | {"keep_checkpoints": 9}
    path = write_config(**THOROUGH | {"output": output})
    train(path)
    train(path, resume=str(tmp_path / "out" / "checkpoints" / phase / "step-000000004"))
    assert outcome(tmp_path / "out") == straight


def test_a_finished_run_shows_its_report_again(thorough, train, capsys, tmp_path, monkeypatch):
    train(thorough)
    before = files.sha256_file(tmp_path / "out" / "metrics.jsonl")
    first = (tmp_path / "out" / "report.json").read_text()

    def never(*_args, **_kwargs):
        raise AssertionError("something is trained")

    monkeypatch.setattr(pipeline.TrainingLoop, "fit", never)
    code, out, _ = in_process(capsys, "--config", thorough, "--resume", "auto", "--json")
    assert code == 0
    assert json.loads(out)["data"] == json.loads(first)
    assert files.sha256_file(tmp_path / "out" / "metrics.jsonl") == before


def test_a_finished_run_is_given_its_control_afterwards(
    write_config, thorough, straight, train, tmp_path, outcome
):
    write_config(**THOROUGH | {"control": False})
    assert train(thorough).difference is None
    write_config(**THOROUGH)
    train(thorough, resume="auto")
    assert outcome(tmp_path / "out") == straight


def test_a_folder_with_a_run_is_not_taken_without_asking(write_config, train, tmp_path, outcome):
    path = write_config()
    train(path)
    before = outcome(tmp_path / "out")
    with pytest.raises(RefusedError) as caught:
        train(path)
    assert "--resume auto" in caught.value.hint
    assert outcome(tmp_path / "out") == before


def test_a_changed_config_is_refused_with_the_difference(write_config, train):
    train(write_config())
    changed = write_config(distillation={"alpha": 0.7}, training={"learning_rate": 0.02, "seed": 1})
    with pytest.raises(CheckpointError) as caught:
        train(changed, resume="auto")
    assert caught.value.details == (
        "distillation.alpha: was 0.5, is 0.7",
        "training.learning_rate: was 0.01, is 0.02",
        "training.seed: was 0, is 1",
    )


def test_changed_data_is_refused(write_config, train, world, tmp_path):
    path = write_config(dataset={"name": [str(world / "text"), str(tmp_path / "more.txt")]})
    (tmp_path / "more.txt").write_text("the fox sleeps")
    train(path)
    (tmp_path / "more.txt").write_text("the dog sleeps")
    with pytest.raises(CheckpointError) as caught:
        train(path, resume="auto")
    assert caught.value.details == ("documents: its files have changed since",)


def test_where_and_how_often_is_saved_may_change(write_config, train, stopped_at):
    with pytest.raises(InterruptedRun), stopped_at(2):
        train(write_config())
    train(write_config(output={"checkpoint_every": 1, "keep_checkpoints": 4}), resume="auto")


# --- checkpoints that are damaged -------------------------------------------------------------


@pytest.fixture
def interrupted(write_config, train, stopped_at, tmp_path):
    """A run stopped at step 3 of 4, with checkpoints at 2 and 3; gives config and their folder."""
    path = write_config()
    with pytest.raises(InterruptedRun), stopped_at(3):
        train(path)
    return path, tmp_path / "out" / "checkpoints" / "student"


def damage(checkpoint):
    path = checkpoint / "optimizer.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def test_a_damaged_newest_checkpoint_costs_the_steps_since_the_one_before(
    interrupted, write_config, train, tmp_path, outcome, capsys
):
    path, folder = interrupted
    damage(folder / "step-000000003")
    code, _, shown = in_process(capsys, "--config", path, "--resume", "auto")
    assert code == 0
    assert "warning: step-000000003 is passed over" in shown
    assert "1 steps are done again" in shown
    train(path, output=tmp_path / "straight")
    assert outcome(tmp_path / "out") == outcome(tmp_path / "straight")


def test_a_damaged_checkpoint_given_by_name_has_no_fallback(interrupted, capsys):
    path, folder = interrupted
    damage(folder / "step-000000003")
    before = sorted(p.name for p in folder.iterdir())
    code, _, shown = in_process(capsys, "--config", path, "--resume", folder / "step-000000003")
    assert code == 31
    assert "altered" in shown
    assert sorted(p.name for p in folder.iterdir()) == before


def test_a_run_never_starts_over_because_all_checkpoints_are_damaged(interrupted, capsys, tmp_path):
    path, folder = interrupted
    for checkpoint in folder.glob("step-*"):
        damage(checkpoint)
    before = files.sha256_file(tmp_path / "out" / "metrics.jsonl")
    code, _, shown = in_process(capsys, "--config", path, "--resume", "auto")
    assert code == 31
    assert "none of its checkpoints can be used" in shown
    assert files.sha256_file(tmp_path / "out" / "metrics.jsonl") == before


def test_a_dry_run_says_how_far_the_run_in_the_folder_is(interrupted, capsys):
    path, _ = interrupted
    code, out, _ = in_process(capsys, "--config", path, "--resume", "auto", "--dry-run", "--json")
    assert code == 0
    assert json.loads(out)["data"]["done"] == {"student": 3}


# --- two processes ----------------------------------------------------------------------------


@pytest.mark.parametrize("resume", ["auto", "never"])
def test_a_folder_in_use_is_refused_naming_the_process(interrupted, capsys, tmp_path, resume):
    path, _ = interrupted
    with files.lock(tmp_path / "out" / ".lock"):
        code, _, shown = in_process(capsys, "--config", path, "--resume", resume)
    assert code == 31
    assert f"locked by pid {os.getpid()}" in shown


# --- a disk that fails ------------------------------------------------------------------------


@pytest.mark.tier3
def test_a_disk_that_is_full_at_any_moment_loses_nothing(write_config, train, tmp_path, outcome):
    """Each n-th file operation of a run fails once with ENOSPC; the run is then resumed."""
    import errno

    from entrenar_common.errors import StorageError
    from entrenar_core.io.faults import inject

    path = write_config(training={"max_steps": 2}, output={"checkpoint_every": 1})
    with inject() as faults:
        train(path, output=tmp_path / "straight")
    straight = outcome(tmp_path / "straight")
    total = len(faults.calls)
    failed = 0
    for number in itertools.islice(range(1, total), 0, None, 11):
        folder = tmp_path / f"at-{number}"
        try:
            with inject(number, errno=errno.ENOSPC):
                train(path, output=folder)
        except StorageError as error:
            failed += 1
            assert error.hint
            train(path, output=folder, resume="auto")
        assert outcome(folder) == straight
        assert not list(folder.rglob("*.tmp-*"))
    assert failed > total // 11 // 2
