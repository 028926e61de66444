"""Jobs run tools in processes of their own, end as they are told, and end with their shell."""

import os
import signal
import stat
import subprocess
import sys
import time

import pytest

from entrenar_common.errors import NotFoundError, StorageError, UsageError
from entrenar_shell.job import Job
from entrenar_shell.jobs import Jobs

pytestmark = pytest.mark.tier2

VERSION = ("entrenar-inspect", "--version")
MISSING = ("entrenar-inspect", "layers", "/no/such/model")
SLEEPER = """
import signal, sys, time
signal.signal(signal.SIGINT, {first})
signal.signal(signal.SIGTERM, {second})
print("ready", flush=True)
while True:
    time.sleep(0.05)  # a signal that comes just before a sleep is seen after it
"""


@pytest.fixture
def jobs(tmp_path):
    jobs = Jobs(tmp_path / "state" / "jobs")
    yield jobs
    for job in jobs.running():
        os.killpg(job._process.pid, signal.SIGKILL)
        job.wait()


@pytest.fixture
def sleeper(monkeypatch, tmp_path):
    """Gives a job that runs a program which does `first` at SIGINT and `second` at SIGTERM."""
    started = []

    def start(first: str, second: str) -> Job:
        code = SLEEPER.format(first=first, second=second)
        real = subprocess.Popen
        monkeypatch.setattr(
            subprocess, "Popen", lambda _, **how: real([sys.executable, "-c", code], **how)
        )
        log = tmp_path / f"{len(started)}.log"
        job = Job(1, "x", plain=(), folder=str(tmp_path), log=log)
        started.append(job)
        until(lambda: job.progress() == "ready")
        return job

    yield start
    for job in started:
        if job.running:
            os.killpg(job._process.pid, signal.SIGKILL)
        job.wait()


def until(condition, seconds: float = 200) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_job_ends_with_the_code_and_the_output_of_its_tool(jobs, tmp_path):
    job = jobs.start("x", plain=(MISSING,), folder=str(tmp_path))
    assert job.wait(200) == NotFoundError.exit_code
    assert "error[E-NOTFOUND]: /no/such/model" in job.log.read_text()
    assert job.progress().startswith("hint: ")


def test_lines_run_after_each_other_until_one_fails(jobs, tmp_path):
    job = jobs.start("x", plain=(VERSION, MISSING, VERSION), folder=str(tmp_path))
    assert job.wait(200) == NotFoundError.exit_code
    assert job.log.read_text().count("entrenar-inspect 0.1.0\n") == 1


def test_a_log_is_its_owners_alone(jobs, tmp_path):
    job = jobs.start("x", plain=(VERSION,), folder=str(tmp_path))
    job.wait(200)
    assert stat.S_IMODE(job.log.stat().st_mode) == 0o600
    assert stat.S_IMODE(job.log.parent.stat().st_mode) == 0o700


def test_a_new_log_takes_the_place_of_the_oldest(jobs, tmp_path):
    folder = tmp_path / "state" / "jobs"
    folder.mkdir(parents=True)
    for number in range(205):
        (folder / f"20200101-000000-1-{number:03}.log").write_text("")
    jobs.start("x", plain=(VERSION,), folder=str(tmp_path)).wait(200)
    left = sorted(path.name for path in folder.iterdir())
    assert len(left) == 200
    assert left[0] == "20200101-000000-1-006.log"


def test_an_end_is_told_once(jobs, tmp_path):
    job = jobs.start("x", plain=(VERSION,), folder=str(tmp_path))
    assert jobs.running() == [job]
    job.wait(200)
    assert jobs.ended() == [job]
    assert jobs.ended() == []
    assert jobs.running() == []


def test_the_seconds_of_a_job_stop_at_its_end(jobs, tmp_path):
    job = jobs.start("x", plain=(VERSION,), folder=str(tmp_path))
    job.wait(200)
    assert job.seconds == job.seconds > 0


def test_a_job_is_in_a_session_of_its_own(jobs, tmp_path):
    job = jobs.start("x", plain=(VERSION,), folder=str(tmp_path))
    assert os.getsid(job._process.pid) == job._process.pid != os.getsid(0)
    job.wait(200)


def test_cancelling_interrupts_first(sleeper):
    job = sleeper("lambda *_: sys.exit(75)", "lambda *_: sys.exit(1)")
    job.cancel()
    assert job.wait(200) == 75
    assert job.cancelled


def test_what_does_not_end_is_terminated_and_then_killed(sleeper):
    job = sleeper("signal.SIG_IGN", "signal.SIG_IGN")
    job.cancel(grace=((signal.SIGINT, 0.1), (signal.SIGTERM, 0.1), (signal.SIGKILL, 10)))
    assert job.wait(200) == 128 + signal.SIGKILL


def test_cancelling_twice_waits_for_no_checkpoint(sleeper):
    job = sleeper("signal.SIG_IGN", "signal.SIG_DFL")
    job.cancel()
    assert job.wait(0.2) is None
    job.cancel()
    assert job.wait(200) == 128 + signal.SIGTERM


def test_the_process_of_a_job_is_interrupted_when_its_shell_is_gone():
    code = (
        "import time; from entrenar_shell import job_process; job_process._end_with_the_shell()\n"
        "print('ready', flush=True)\n"
        "while True: time.sleep(0.05)"
    )
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen([sys.executable, "-c", code], start_new_session=True, **pipes)
    assert process.stdout.readline() == b"ready\n"
    process.stdin.close()  # as the system does for a process that was killed
    assert process.wait(200) == -signal.SIGINT
    process.stdout.close()


def test_a_number_that_no_job_has_is_not_found(jobs, tmp_path):
    jobs.start("x", plain=(VERSION,), folder=str(tmp_path)).wait(200)
    with pytest.raises(NotFoundError, match="no job 2"):
        jobs.find(2)


def test_without_jobs_there_is_none_to_find(jobs):
    with pytest.raises(UsageError, match="no jobs"):
        jobs.find()


def test_without_a_home_a_job_says_where_its_log_could_go(monkeypatch, tmp_path):
    for name in ("HOME", "XDG_STATE_HOME"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(StorageError) as caught:
        Jobs().start("x", plain=(VERSION,), folder=str(tmp_path))
    assert "XDG_STATE_HOME" in str(caught.value.hint)
