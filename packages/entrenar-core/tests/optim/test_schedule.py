"""Learning-rate schedules against their closed forms."""

import math

import pytest

from entrenar_core.optim import learning_rate
from entrenar_core.optim.schedule import SCHEDULES


def rate(step, schedule="cosine", peak=0.5, warmup=10, total=110, floor=0.1):
    return learning_rate(
        step, peak=peak, warmup=warmup, total=total, schedule=schedule, floor_ratio=floor
    )


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_the_warm_up_is_linear_and_reaches_the_peak_in_its_last_step(schedule):
    assert [rate(s, schedule) for s in range(10)] == pytest.approx(
        [0.05 * (s + 1) for s in range(10)]
    )


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_the_first_step_after_the_warm_up_is_at_the_peak(schedule):
    assert rate(10, schedule) == pytest.approx(0.5)


def test_constant_stays():
    assert {rate(s, "constant") for s in range(10, 300)} == {0.5}


@pytest.mark.parametrize("step", [10, 35, 60, 109, 110, 500])
def test_linear_falls_to_its_floor_and_stays_there(step):
    done = min(1.0, (step - 10) / 100)
    assert rate(step, "linear") == pytest.approx(0.05 + 0.45 * (1 - done))


@pytest.mark.parametrize("step", [10, 35, 60, 109, 110, 500])
def test_cosine_falls_to_its_floor_and_stays_there(step):
    done = min(1.0, (step - 10) / 100)
    wanted = 0.05 + 0.45 * (1 + math.cos(math.pi * done)) / 2
    assert rate(step, "cosine") == pytest.approx(wanted)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_no_rate_is_zero_or_above_the_peak(schedule):
    assert all(0 < rate(s, schedule) <= 0.5 for s in range(200))


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_warm_up_as_long_as_the_training_never_decays(schedule):
    assert rate(109, schedule, warmup=110) == pytest.approx(0.5)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_without_warm_up_the_first_step_is_at_the_peak(schedule):
    assert rate(0, schedule, warmup=0) == pytest.approx(0.5)
