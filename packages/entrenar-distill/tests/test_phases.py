"""A run that is disturbed in each of its phases: by signals, by a reader that goes away, by memory
that runs out. Resumed, it ends as if nothing had happened."""

import os
import signal
import sys
from contextlib import contextmanager, suppress

import numpy as np
import pytest

from entrenar_common.errors import CheckpointError
from entrenar_core import models
from entrenar_core.data.batches import Batches
from entrenar_core.data.tokenizer import train_bpe
from entrenar_core.distill import Distillation
from entrenar_core.io.os_calls import os_calls
from entrenar_core.train import loop
from entrenar_distill import causal, measure
from entrenar_distill.cli import main
from entrenar_distill.inputs import Inputs

pytestmark = pytest.mark.tier2

SECTIONS = {
    "training": {"max_steps": 4, "gradient_accumulation": 2, "evaluate_every": 2},
    "output": {"checkpoint_every": 2},
}
PHASES = {
    "the student is made": (Inputs, "new_student", 1),
    "kernels are loaded": (loop, "load_kernels", 1),
    "a batch is read": (Batches, "batch", 4),  # the first one is for the kernels
    "the second micro-batch": (Distillation, "loss", 3),
    "an evaluation": (causal, "held_out_loss", 1),
    "a save": (os_calls, "rename", 1),
    "the student is written": (models, "save", 1),
    "a model is measured": (measure, "score", 1),
}


@pytest.fixture
def config(write_config):
    return write_config(**SECTIONS)


@pytest.fixture(scope="module")
def straight(make_config, tmp_path_factory, train, outcome):
    """What a run ends with when nothing disturbs it."""
    folder = tmp_path_factory.mktemp("straight")
    train(make_config(folder, **SECTIONS))
    return outcome(folder / "out")


@pytest.fixture
def before(monkeypatch):
    """`with before(place, name, call, act):` does `act` before the call-th call of a function."""

    @contextmanager
    def context(place, name, call, act):
        calls, original = [], getattr(place, name)

        def acting(*args, **kwargs):
            calls.append(name)
            if len(calls) == call:
                act()
            return original(*args, **kwargs)

        with monkeypatch.context() as patch:
            patch.setattr(place, name, acting)
            yield
        assert len(calls) >= call

    return context


def sent(*numbers):
    """What sends this process signals, one after another."""

    def send():
        for number in numbers:
            os.kill(os.getpid(), number)

    return send


def run(config, *words):
    return main.main(["run", "--config", str(config), *words], standalone_mode=False)


@pytest.mark.parametrize("phase", PHASES)
def test_sigterm_in_a_phase_ends_with_75_and_loses_nothing(
    config, straight, before, train, tmp_path, outcome, capsys, phase
):
    place, name, call = PHASES[phase]
    with before(place, name, call, sent(signal.SIGTERM)):
        assert run(config, "-q") == 75
    assert "go on with --resume auto" in capsys.readouterr().err
    train(config, resume="auto")
    assert outcome(tmp_path / "out") == straight


def test_interrupted_three_times_in_a_save_is_over_at_once(
    config, straight, before, train, tmp_path, outcome
):
    """The second SIGINT leaves the save, the third one what cleans up after it."""
    with (
        before(os_calls, "rename", 1, sent(signal.SIGINT, signal.SIGINT)),
        before(os_calls, "rename", 2, sent(signal.SIGINT)),
    ):
        assert run(config, "-q") == 130
    folder = tmp_path / "out" / "checkpoints" / "student"
    assert [p.name for p in folder.glob("step-*.tmp-*")]  # what nobody had the time to remove
    train(config, resume="auto")
    assert outcome(tmp_path / "out") == straight
    assert not [p for p in folder.iterdir() if ".tmp-" in p.name]


# --- nobody reads what is printed ---------------------------------------------------------------


@pytest.fixture
def closed_pipe():
    """A stream whose reader has gone, as `head` does."""
    reader, writer = os.pipe()
    os.close(reader)
    stream = os.fdopen(writer, "w", encoding="utf-8")
    yield stream
    with suppress(BrokenPipeError):
        stream.close()


def test_a_reader_of_the_report_that_went_away_costs_the_report_on_the_screen_alone(
    config, straight, tmp_path, outcome, monkeypatch, closed_pipe
):
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", closed_pipe)
        assert run(config, "-q") == 141
    assert outcome(tmp_path / "out") == straight


def test_a_reader_of_the_progress_that_went_away_ends_the_run_quietly(
    config, straight, train, tmp_path, outcome, monkeypatch, closed_pipe
):
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", closed_pipe)
        assert run(config) == 141
    train(config, resume="auto")
    assert outcome(tmp_path / "out") == straight


def test_an_interrupted_run_ends_with_75_though_nobody_reads_why(
    config, straight, before, train, tmp_path, outcome, monkeypatch, closed_pipe
):
    with (
        before(Distillation, "loss", 3, sent(signal.SIGHUP)),
        monkeypatch.context() as patch,
    ):
        patch.setattr(sys, "stderr", closed_pipe)
        assert run(config, "-q") == 75
    train(config, resume="auto")
    assert outcome(tmp_path / "out") == straight


# --- memory that runs out -----------------------------------------------------------------------


def too_much():
    np.empty(2**60, np.uint8)


@pytest.mark.parametrize(
    ("place", "name", "call"),
    [(Distillation, "loss", 2), (os_calls, "write", 12)],
    ids=["the first step", "the first save"],
)
def test_memory_that_runs_out_is_one_error_with_what_it_takes_and_what_there_is(
    config, straight, before, train, tmp_path, outcome, capsys, place, name, call
):
    with before(place, name, call, too_much):
        assert run(config, "-q") == 22
    error, hint = capsys.readouterr().err.splitlines()
    assert error.startswith("error[E-MEMORY]: out of memory: Unable to allocate 1.00 EiB")
    assert "the run is estimated to take " in error
    assert "this process may have " in error
    assert "entrenar-distill estimate" in hint
    assert not [p for p in (tmp_path / "out").rglob("*") if ".tmp-" in p.name]
    train(config, resume="auto")
    assert outcome(tmp_path / "out") == straight


# --- another tokenizer --------------------------------------------------------------------------


def test_a_changed_tokenizer_is_refused(write_config, train, teacher, world):
    path = write_config(teacher={"model_id": str(teacher)})
    train(path)
    texts = [p.read_text()[::-1] for p in sorted((world / "text").iterdir())]
    train_bpe(texts, 300).save(teacher)
    with pytest.raises(CheckpointError, match="differs from this one") as caught:
        train(path, resume="auto")
    assert "tokenizer: its files have changed since" in caught.value.details
