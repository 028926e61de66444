"""The command line in a process of its own: before it trains, on a terminal, in little memory."""

import os
import pty
import select
import signal
import subprocess
import sys
import time

import pytest

pytestmark = pytest.mark.tier3

GRACE = 30
"""Seconds in which a step is finished and saved, on a machine that does other things too."""
START = "from entrenar_distill.cli import main; main()"
SECTIONS = {"training": {"max_steps": 60}, "output": {"checkpoint_every": 1000}}


@pytest.fixture
def config(write_config):
    return write_config(**SECTIONS)


@pytest.fixture(scope="module")
def straight(make_config, tmp_path_factory, train, outcome):
    folder = tmp_path_factory.mktemp("straight")
    train(make_config(folder, **SECTIONS))
    return outcome(folder / "out")


def words(config, *more, start=START):
    return [sys.executable, "-c", start, "run", "--config", str(config), "--resume", "auto", *more]


def lines(output):
    log = output / "metrics.jsonl"
    return log.read_bytes().count(b"\n") if log.exists() else 0


def wait_until(ready):
    deadline = time.monotonic() + 120
    while not ready():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def read_until(terminal, ready):
    """Read what is shown, so that nobody waits for it, until something is there."""

    def read_and_ask():
        if select.select([terminal], [], [], 0)[0]:
            os.read(terminal, 65536)
        return ready()

    wait_until(read_and_ask)


# --- before anything is trained -----------------------------------------------------------------

IMPORTING = """
import os, signal, sys
def hook(event, args):
    if event == "import" and args[0] == "numpy":
        os.kill(os.getpid(), signal.SIGTERM)
sys.addaudithook(hook)
"""
READING = """
import os, signal
from entrenar_distill import causal
def read(*args, **kwargs):
    os.kill(os.getpid(), signal.SIGTERM)
    raise AssertionError("still there")
causal.read_inputs = read
"""


@pytest.mark.parametrize("hook", [IMPORTING, READING], ids=["importing", "reading"])
def test_sigterm_before_the_training_ends_at_once_and_leaves_nothing(config, tmp_path, hook):
    done = subprocess.run(words(config, "-q", start=hook + START), capture_output=True, timeout=120)
    assert done.returncode == -signal.SIGTERM  # 143 to a shell
    assert done.stdout + done.stderr == b""
    left = sorted(p.name for p in tmp_path.rglob("*") if not p.name.startswith("."))
    assert left == ["distill.yaml"]


# --- the terminal -------------------------------------------------------------------------------


def test_a_terminal_that_is_closed_stops_the_run_with_its_state_saved(
    config, straight, train, tmp_path, outcome
):
    """SIGHUP, and nothing can be shown any more, not even why it ends."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(words(config), stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    read_until(ours, lambda: lines(tmp_path / "out") >= 5)
    os.close(ours)
    process.send_signal(signal.SIGHUP)
    assert process.wait(timeout=GRACE) == 75
    train(config, resume="auto")
    assert outcome(tmp_path / "out") == straight


# --- memory -------------------------------------------------------------------------------------

LITTLE_MEMORY = """
import resource
import numpy as np
from entrenar_core.distill import Distillation
step = Distillation.loss
def limited(self, batch, normalizer):
    with open("/proc/self/statm") as file:
        used = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + 2**22, used + 2**22))
    np.ones(2**27)  # 1 GiB, as the logits of a large vocabulary
    return step(self, batch, normalizer)
Distillation.loss = limited
"""


@pytest.mark.skipif(sys.platform != "linux", reason="needs a limit of address space and /proc")
def test_under_a_real_limit_of_memory_the_error_still_says_what_is_needed(
    config, straight, train, tmp_path, outcome
):
    """What is computed for the message has to get by with what the step leaves."""
    command = words(config, "-q", start=LITTLE_MEMORY + START)
    done = subprocess.run(command, capture_output=True, encoding="utf-8", timeout=120)
    assert done.returncode == 22, done.stderr
    error, _hint = done.stderr.splitlines()
    assert error.startswith("error[E-MEMORY]: out of memory: Unable to allocate 1.00 GiB")
    assert "the run is estimated to take " in error
    assert not [p for p in (tmp_path / "out").rglob("*") if ".tmp-" in p.name]
    train(config, resume="auto")
    assert outcome(tmp_path / "out") == straight
