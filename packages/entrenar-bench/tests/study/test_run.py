"""Driving studies: worker processes, drivers beside each other, and what goes wrong with them."""

import os
import signal
from pathlib import Path

import pytest

import study_runners
from drivers import start_driver, wait_until
from entrenar_bench.study import Arm, Plan, Status, Study, read_mirror, run_trials
from entrenar_common.errors import ConfigError

pytestmark = pytest.mark.tier2

DRIVER = Path(__file__).with_name("driver.py")


@pytest.fixture
def path(tmp_path, plan) -> Path:
    Study.create(tmp_path / "a.study", plan).close()
    return tmp_path / "a.study"


def test_runs_are_done_in_processes_and_kept_with_their_steps(path):
    with Study.open(path) as study:
        outcome = run_trials(study, study_runners.quick, jobs=2)
        assert (outcome.finished, outcome.failed, outcome.waiting) == (6, 0, 0)
        assert study.results("loss") == {
            "one": {0: 1.0, 1: 1.01, 2: 1.02},
            "two": {0: 2.0, 1: 2.01, 2: 2.02},
        }
        assert study.steps(next(study.trials()).run)[0][:2] == (1, "loss")
        assert len({attempt.worker for attempt in study.attempts()}) == 2


def test_a_worker_is_one_process_for_all_its_runs_and_not_ours(path):
    with Study.open(path) as study:
        run_trials(study, study_runners.plain)
        pids = {pid for runs in study.results("pid").values() for pid in runs.values()}
    assert len(pids) == 1
    assert os.getpid() not in pids


def test_a_run_that_raises_fails_and_the_others_go_on(path):
    with Study.open(path) as study:
        outcome = run_trials(study, study_runners.picky)
        assert (outcome.finished, outcome.failed) == (3, 3)
        assert "ValueError: x is 1 with seed 0" in outcome.errors


def test_a_study_whose_runs_all_fail_alike_stops_early(path):
    with Study.open(path) as study:
        outcome = run_trials(study, study_runners.failing)
    assert (outcome.failed, outcome.waiting) == (3, 3)
    assert "RuntimeError: no such thing as run 0" in outcome.stopped


def test_a_runner_that_measures_nothing_fails(path):
    with Study.open(path) as study:
        assert "the runner returned no metrics" in run_trials(study, study_runners.nothing).stopped


def test_a_worker_that_is_killed_fails_its_run_and_is_replaced(path):
    with Study.open(path) as study:
        outcome = run_trials(study, study_runners.dying)
    assert (outcome.finished, outcome.failed) == (3, 3)
    assert outcome.errors == ("the worker's process was killed by SIGKILL: out of memory?",)


def test_no_jobs_are_refused(path):
    with Study.open(path) as study, pytest.raises(ConfigError, match="jobs is 0"):
        run_trials(study, study_runners.quick, jobs=0)


def test_two_drivers_share_a_study(tmp_path):
    arms = tuple(Arm(f"{i}", {"x": 0.05 * i}) for i in range(5))
    Study.create(tmp_path / "a.study", Plan(arms, (0, 1, 2))).close()
    drivers = [start_driver(DRIVER, tmp_path / "a.study", "slow", 1, 120) for _ in range(2)]
    for driver in drivers:
        assert "finished=15, failed=0" in driver.communicate(timeout=60)[0]
        assert driver.returncode == 0
    with Study.open(tmp_path / "a.study") as study:
        attempts = study.attempts()
    assert len(attempts) == len({a.run for a in attempts}) == 15
    assert len({a.worker for a in attempts}) == 2
    kinds = [e["kind"] for e in read_mirror(tmp_path / "a.study.jsonl")]
    assert kinds.count("finished") == 15


def test_a_killed_driver_takes_its_workers_along_and_another_goes_on(tmp_path):
    Study.create(tmp_path / "a.study", Plan((Arm("a", {"x": 0.3}),), (0, 1, 2, 3))).close()
    driver = start_driver(DRIVER, tmp_path / "a.study", "slow", 1, 1.5)
    with Study.open(tmp_path / "a.study", lease_seconds=1.5) as study:
        wait_until(lambda: study.counts()[Status.FINISHED] >= 1)
        wait_until(lambda: study.counts()[Status.RUNNING] == 1)
        worker = int(study.attempts()[-1].worker.rpartition("pid ")[2].rstrip(")"))
        driver.kill()
        driver.communicate()
        outcome = run_trials(study, study_runners.slow)
        assert (outcome.finished, outcome.failed) == (4, 0)
    wait_until(lambda: not Path(f"/proc/{worker}").exists())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_driver_lets_its_run_wait_again(tmp_path, number):
    Study.create(tmp_path / "a.study", Plan((Arm("a", {"x": 60}),), (0,))).close()
    driver = start_driver(DRIVER, tmp_path / "a.study", "slow", 1, 120)
    with Study.open(tmp_path / "a.study") as study:
        wait_until(lambda: study.counts()[Status.RUNNING] == 1)
        driver.send_signal(number)
        shown = driver.communicate(timeout=30)[1]
        assert "InterruptedRun" in shown
        assert "stopped with 0 runs finished, 1 wait" in shown
        assert study.counts()[Status.WAITING] == 1
        assert study.attempts()[0].outcome == "given back"


def test_workers_share_the_processors(path, monkeypatch):
    monkeypatch.delenv("NUMBA_NUM_THREADS", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    with Study.open(path) as study:
        run_trials(study, study_runners.threads, jobs=2)
        assert {n for runs in study.results("threads").values() for n in runs.values()} == {3.0}
