"""Sweeps that ask for one point after the other, and go on as if they had never been stopped."""

import math
import signal
from pathlib import Path

import pytest

import growing
from drivers import start_driver, wait_until
from entrenar_bench.runs import Runs
from entrenar_bench.study import Status, Study, run_trials
from entrenar_common.errors import ConfigError, RefusedError
from growing import drive, same, walk

DRIVER = Path(__file__).with_name("study") / "growing_driver.py"


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "a.study"


def opened(path, growth, **how) -> Study:
    return (
        Study.open(path, growth.plan, **how) if path.exists() else Study.create(path, growth.plan)
    )


def names(growth) -> list[str]:
    return [arm.name for arm in growth.plan.arms]


def test_a_point_is_asked_for_when_the_one_before_is_known(path):
    growth = walk(4)
    with opened(path, growth) as study:
        assert drive(study, growth, same)
        assert study.results("loss") == {
            "base": {0: -1, 1: -1},
            **{f"x={x}": {0: x, 1: x} for x in range(4)},
        }
    assert names(growth) == ["base", "x=0", "x=1", "x=2", "x=3"]
    assert growth._sampler.told == [0, 1, 2, 3]


def test_a_sampler_is_told_the_mean_over_the_seeds(path):
    growth = walk(2, seeds=(1, 2, 4))
    with opened(path, growth) as study:
        drive(study, growth, lambda config, seed: {"loss": config["x"] + seed**2})
    assert growth._sampler.told == [7, pytest.approx(15)]


@pytest.mark.parametrize("failing", [RuntimeError("broken"), math.nan, math.inf])
def test_a_point_with_a_run_that_failed_or_is_not_finite_has_failed(path, failing):
    def runner(config, seed):
        if config["x"] == 1 and seed == 1:
            if isinstance(failing, RuntimeError):
                raise failing
            return {"loss": failing}
        return {"loss": config["x"]}

    growth = walk(3)
    with opened(path, growth) as study:
        drive(study, growth, runner)
    assert growth._sampler.told == [0, None, 0]  # after the failure, 0 again


def test_a_point_that_was_asked_for_before_is_a_trial_and_not_run_again(path):
    growth = walk(5, step=0)
    with opened(path, growth) as study:
        assert drive(study, growth, same)
        assert len(study.attempts()) == 4
    assert growth._sampler.told == [0] * 5
    assert "4 points were asked for again, and not run again." in growth.notes


def test_a_point_that_always_fails_ends_after_its_trials(path):
    def runner(config, seed):
        if config["x"] == 0:
            raise RuntimeError(f"broken {seed}")
        return {"loss": 1.0}

    growth = walk(6)
    with opened(path, growth) as study:
        assert drive(study, growth, runner)
        assert study.counts()[Status.FAILED] == 2
    assert growth._sampler.told == [None] * 6


def test_a_sweep_whose_first_runs_all_fail_alike_stops_and_asks_for_nothing(path):
    def runner(config, seed):
        raise RuntimeError("no disk")

    growth = walk(6, seeds=(0, 1, 2))
    with opened(path, growth) as study:
        assert not drive(study, growth, runner)
        assert "no disk" in study.stopped
    assert growth._asked.points == ()


def test_a_point_that_makes_no_configuration_has_failed_and_is_told_of(path, monkeypatch):
    def arm_of(point):
        if point["x"] == 1:
            raise ConfigError("1 does not go with the rest")
        return plain(point)

    plain = growing.arm_of
    monkeypatch.setattr(growing, "arm_of", arm_of)
    growth = walk(3)
    with opened(path, growth) as study:
        assert drive(study, growth, same)
    assert growth._sampler.told == [0, None, 0]
    assert "1 points make no configuration: 1 does not go with the rest" in growth.notes


def test_a_metric_that_no_run_has_is_an_error_before_any_point_and_may_be_mended(path):
    wrong = walk(3, metric="losss")
    with opened(path, wrong) as study, pytest.raises(ConfigError, match="did you mean loss"):
        drive(study, wrong, same)
    right = walk(3)
    with opened(path, right) as study:
        assert drive(study, right, same)
        assert len(study.attempts()) == 8


@pytest.mark.parametrize("runs", [1, 3, 4, 11])
def test_a_sweep_that_was_stopped_goes_on_as_if_it_had_not_been(path, tmp_path, runs):
    whole, cut, again = walk(5), walk(5), walk(5)
    with opened(tmp_path / "whole.study", whole) as study:
        drive(study, whole, same)
        wanted = [(t.run, t.position) for t in study.trials()], study.asked
    with opened(path, cut) as study:
        assert not drive(study, cut, same, runs=runs)
    with opened(path, again) as study:
        assert drive(study, again, same)
        assert ([(t.run, t.position) for t in study.trials()], study.asked) == wanted
        assert len(study.attempts()) == 12
    assert names(again) == names(whole)


def test_more_trials_go_on_from_the_ones_before_and_fewer_show_the_first(path):
    for trials, attempts in ((2, 6), (4, 10), (3, 10)):
        growth = walk(trials)
        with opened(path, growth) as study:
            assert drive(study, growth, same)
            assert len(study.attempts()) == attempts
            assert {t.arm for t in Runs.of(study, growth.plan).trials} == set(names(growth))
        assert len(names(growth)) == 1 + trials


def test_a_run_that_is_mended_later_changes_no_point(path):
    def picky(config, seed):
        if config["x"] == 1:
            raise RuntimeError("no disk")
        return same(config, seed)

    growth = walk(4)
    with opened(path, growth) as study:
        drive(study, growth, picky)
        before = study.asked
    assert before.told == (0, None, 0, None)
    mended = walk(4)
    with opened(path, mended) as study:
        study.retry_failed()
        assert drive(study, mended, same)
        assert study.asked == before
        assert study.results("loss")["x=1"] == {0: 1, 1: 1}


def test_a_study_of_other_points_is_refused_or_goes_on_with_these(path):
    first = walk(3)
    with opened(path, first) as study:
        drive(study, first, same)
    other = walk(3, step=2)
    with opened(path, other) as study, pytest.raises(RefusedError, match="point 2"):
        drive(study, other, same)
    other = walk(3, step=2)
    with opened(path, other, edited="allow") as study:
        assert drive(study, other, same)
        assert names(other) == ["base", "x=0", "x=2", "x=4"]
        assert len(study.attempts()) == 10  # x = 2 was there


def test_a_sweep_by_another_rule_is_refused(path):
    first = walk(1)
    with opened(path, first) as study:
        drive(study, first, same)
    with pytest.raises(RefusedError, match="another rule"):
        opened(path, walk(1, metric="accuracy"))


def test_two_drivers_in_turns_ask_for_every_point_once(path):
    ours, theirs = walk(6), walk(6)
    with opened(path, ours) as study, opened(path, theirs) as other:
        going = [(study, ours), (other, theirs)]
        while going:
            for one, growth in list(going):
                lease = one.claim("w")
                if lease is not None:
                    one.finish(lease, same(lease.trial.config, lease.trial.seed))
                elif not growth.more(one):
                    going.remove((one, growth))
        assert len(study.attempts()) == 14
    assert names(ours) == names(theirs)


# ---- processes ---------------------------------------------------------------------------------


def wanted(trials: int) -> list[str]:
    return ["base", *(f"x={0.125 * k:g}" for k in range(trials))]


@pytest.mark.tier2
def test_two_drivers_share_a_sweep_that_grows(path):
    opened(path, walk(5, step=0.125)).close()
    drivers = [start_driver(DRIVER, path, "slow_same", 1, 5, 120) for _ in range(2)]
    for driver in drivers:
        shown = driver.communicate(timeout=60)
        assert "finished=12" in shown[0], shown
    with Study.open(path) as study:
        attempts = study.attempts()
        assert list(study.results("loss")) == wanted(5)
    assert len(attempts) == len({a.run for a in attempts}) == 12


@pytest.mark.tier2
def test_another_driver_goes_on_where_one_was_killed(path):
    opened(path, walk(5, step=0.125)).close()
    driver = start_driver(DRIVER, path, "slow_same", 1, 5, 1.5)
    growth = walk(5, step=0.125)
    with Study.open(path, growth.plan, lease_seconds=1.5) as study:
        wait_until(lambda: study.counts()[Status.FINISHED] >= 5)
        driver.send_signal(signal.SIGKILL)
        driver.communicate()
        run_trials(study, growing.same, jobs=2, more=growth.more)
        assert list(study.results("loss")) == wanted(5)
        assert study.counts()[Status.FINISHED] == 12
