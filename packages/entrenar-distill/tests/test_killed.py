"""SIGKILL at any moment: resumed, twice, a run ends as if nothing had happened."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from entrenar_common.testing import run_cli

pytestmark = pytest.mark.tier3

SECTIONS = {
    "training": {
        "max_steps": None,
        "epochs": 2,
        "batch_size": 4,
        "gradient_accumulation": 3,
        "evaluate_every": 2,
    },
    "output": {"checkpoint_every": 2},
    "control": True,
}
SCRIPT = Path(__file__).with_name("killed.py")


@pytest.fixture(scope="module")
def killed_at(make_config, tmp_path_factory):
    """Runs the configuration into a folder, killed at each of the moments in turn."""
    folder = tmp_path_factory.mktemp("killed")
    config = make_config(folder, **SECTIONS)

    def run(name, *moments):
        words = [sys.executable, str(SCRIPT), str(config), str(folder / name), *moments]
        done = subprocess.run(words, capture_output=True, encoding="utf-8", timeout=120)
        return done.stdout.split(), folder / name, done.stderr

    return run


@pytest.fixture(scope="module")
def straight(killed_at, outcome):
    ended, folder, shown = killed_at("straight", "end")
    assert ended == ["0"], shown
    return outcome(folder)


# A run makes some 450 file operations; from a prime to the next the distance varies.
OPERATIONS = [1, 23, 67, 127, 167, 233, 313, 397]


@pytest.mark.parametrize("number", OPERATIONS)
def test_killed_at_a_file_operation_twice(killed_at, straight, outcome, number):
    moments = [f"op:{number}", f"op:{number // 2 + 20}", "end"]
    ended, folder, shown = killed_at(f"op-{number}", *moments)
    assert ended[0] == "killed", shown
    assert ended[-1] == "0", shown
    assert outcome(folder) == straight
    assert not [p for p in folder.rglob("*") if ".tmp-" in p.name and p.parent != folder]


@pytest.mark.parametrize("number", [2, 5])
def test_killed_in_an_evaluation_twice(killed_at, straight, outcome, number):
    ended, folder, shown = killed_at(f"score-{number}", f"score:{number}", "score:1", "end")
    assert ended == ["killed", "killed", "0"], shown
    assert outcome(folder) == straight


def test_killed_by_the_clock_twice(make_config, tmp_path, train, outcome):
    """The real command line, killed when it has written so many lines; then once more."""
    training = SECTIONS["training"] | {"epochs": 12}
    config = make_config(tmp_path, **SECTIONS | {"training": training})
    for lines in (20, 25):
        process = started(config, tmp_path / "out", lines)
        process.kill()
        assert process.wait() == -signal.SIGKILL
    done = run_cli(["entrenar-distill", "run", "--config", str(config), "--resume", "auto"])
    assert done.returncode == 0, done.stderr
    train(config, output=tmp_path / "straight")
    assert outcome(tmp_path / "out") == outcome(tmp_path / "straight")


def test_a_full_disk_ends_the_run_with_one_line_and_the_run_can_go_on(
    make_config, tmp_path, train, outcome
):
    """A real limit: no file may grow beyond so many bytes, as when the quota is used up."""
    config = make_config(tmp_path, **SECTIONS)
    train(config, output=tmp_path / "straight")
    largest = max(path.stat().st_size for path in (tmp_path / "straight").rglob("*.safetensors"))
    start = (
        f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({largest // 2},) * 2); "
        "from entrenar_distill.cli import main; main()"
    )
    words = [sys.executable, "-c", start, "run", "--config", str(config), "-q"]
    # the files of whoever counts covered lines would meet the limit too
    uncounted = {k: v for k, v in os.environ.items() if not k.startswith("COVERAGE_")}
    done = subprocess.run(words, capture_output=True, encoding="utf-8", timeout=120, env=uncounted)
    assert done.returncode == 21
    error, hint = done.stderr.splitlines()
    assert error.startswith("error[E-STORAGE]: ")
    assert "File too large" in error
    assert hint.startswith("hint: a file size limit is in force")
    assert not [path for path in (tmp_path / "out").rglob("*") if ".tmp-" in path.name]
    train(config, resume="auto")
    assert outcome(tmp_path / "out") == outcome(tmp_path / "straight")


def test_terminated_saves_and_a_second_process_is_kept_out(make_config, tmp_path, train, outcome):
    """SIGTERM to the real command line; while it runs, another one may not use its folder."""
    training = SECTIONS["training"] | {"epochs": 12}
    config = make_config(tmp_path, **SECTIONS | {"training": training})
    process = started(config, tmp_path / "out", 5)
    os.kill(process.pid, signal.SIGSTOP)
    second = run_cli(["entrenar-distill", "run", "--config", str(config), "--resume", "auto"])
    os.kill(process.pid, signal.SIGCONT)
    assert second.returncode == 31
    assert f"locked by pid {process.pid}" in second.stderr
    process.terminate()
    assert process.wait(timeout=60) == 75
    train(config, resume="auto")
    train(config, output=tmp_path / "straight")
    assert outcome(tmp_path / "out") == outcome(tmp_path / "straight")


def started(config, output, lines):
    """The command line, when its log has `lines` lines more than before."""
    log = output / "metrics.jsonl"
    before = log.read_bytes().count(b"\n") if log.exists() else 0
    start = "from entrenar_distill.cli import main; main()"
    words = [sys.executable, "-c", start, "run", "--config", str(config), "--resume", "auto", "-q"]
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not log.exists() or log.read_bytes().count(b"\n") < before + lines:
        assert process.poll() is None, f"ended with {process.returncode}"
        assert time.monotonic() < deadline
        time.sleep(0.005)
    return process
