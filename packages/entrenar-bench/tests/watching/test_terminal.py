"""The command on a real pseudo terminal: Ctrl-C, once and twice, and what is left then."""

import os
import sys
from pathlib import Path

import pexpect
import pytest

import study_runners
from drivers import wait_until
from entrenar_bench.study import Status, Study

pytestmark = pytest.mark.tier3

PROGRAM = Path(__file__).with_name("made_up.py")
LEAVE = "\x1b[?7h\x1b[?25h\x1b[?1049l"
STOPPING = "stopping: what runs is saved"


@pytest.fixture
def start(config, tmp_path):
    """Starts a sweep whose first runs end at once, and whose others hang whatever they are asked;
    gives the terminal, and the study's file."""
    study, children = tmp_path / "a b.study", []

    def begin(grace, *more):
        paths = [str(Path(study_runners.__file__).parent), os.environ.get("PYTHONPATH", "")]
        words = ["temperature", "--range", "1..2", "--step", "1", "--seeds", "2", "--config",
                 str(config), "--study", str(study), *more]  # fmt: skip
        children.append(
            pexpect.spawn(
                sys.executable,
                [str(PROGRAM), str(grace), *words],
                env=os.environ | {"TERM": "xterm-256color", "NO_COLOR": "1",
                                  "PYTHONPATH": os.pathsep.join(paths)},
                dimensions=(24, 80),
                encoding="utf-8",
                timeout=120,
            )
        )  # fmt: skip
        return children[0], study

    yield begin
    for child in children:
        child.close(force=True)


def until_it_hangs(child):
    child.expect("temperature=2, seed .: student step 20/20")


def end_of(child):
    child.expect(pexpect.EOF)
    child.close()
    return child.before


def test_ctrl_c_twice_ends_at_once_with_the_terminal_and_the_study_whole(start):
    child, path = start(6000, "--live")  # nobody would wait for that
    until_it_hangs(child)
    child.sendintr()
    child.expect(STOPPING)
    child.sendintr()
    text = end_of(child)
    assert child.exitstatus == 75
    after = text.partition(LEAVE)[2]
    assert "\x1b" not in after
    assert "Traceback" not in after
    lines = after.split("\r\n")
    assert lines[0].startswith("Temperatures: ")
    assert any(line.startswith("error[E-INTERRUPTED]: ") and path.name in line for line in lines)
    again = next(line for line in lines if line.startswith("hint: go on with: "))
    assert again.endswith(f"--study '{path}' --live")
    with Study.open(path) as study:
        counts = study.counts()
        assert counts[Status.RUNNING] == counts[Status.FAILED] == 0
        assert counts[Status.FINISHED] + counts[Status.WAITING] == 4
        assert study.attempts()[-1].outcome == "given back"


def test_ctrl_c_once_ends_a_bar_and_a_worker_that_hangs(start):
    child, path = start(0.5)
    child.expect(r"runs .* ./4 best temperature=1 \d")
    with Study.open(path) as study:
        wait_until(lambda: study.counts()[Status.RUNNING] == 1)
        child.sendintr()
        assert "go on with: " in end_of(child)
        assert child.exitstatus == 75
        worker = int(study.attempts()[-1].worker.rpartition("pid ")[2].rstrip(")"))
        assert study.counts()[Status.RUNNING] == 0
    assert not Path(f"/proc/{worker}").exists()
