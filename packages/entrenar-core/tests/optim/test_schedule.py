"""Learning-rate schedules against their closed forms."""

import math
from dataclasses import FrozenInstanceError, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from entrenar_common.errors import ConfigError
from entrenar_core.optim import (
    Constant,
    Cosine,
    CosineRestarts,
    Exponential,
    Joined,
    Linear,
    Polynomial,
    SquareRoot,
    Step,
    Warmup,
    joined,
    learning_rate,
    warmup_stable_decay,
)
from entrenar_core.optim.schedule import DECAYS, SCHEDULES


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


PEAK, STEPS, END = 0.8, 20, 0.05

CLOSED_FORMS = {
    "constant": (Constant(PEAK), lambda s: PEAK),
    "warm-up": (Warmup(PEAK, STEPS), lambda s: PEAK * min(s + 1, STEPS) / STEPS),
    "linear": (
        Linear(PEAK, STEPS, END),
        lambda s: PEAK + (END - PEAK) * min(s, STEPS) / STEPS,
    ),
    "linear to zero": (Linear(PEAK, STEPS), lambda s: PEAK * max(0, STEPS - s) / STEPS),
    "polynomial": (
        Polynomial(PEAK, STEPS, 3.0, END),
        lambda s: END + (PEAK - END) * (max(0, STEPS - s) / STEPS) ** 3,
    ),
    "polynomial's defaults": (Polynomial(PEAK, STEPS), lambda s: PEAK * max(0, STEPS - s) / STEPS),
    "cosine": (
        Cosine(PEAK, STEPS, END),
        lambda s: (PEAK + END) / 2 + (PEAK - END) / 2 * math.cos(math.pi * min(s, STEPS) / STEPS),
    ),
    "cosine to zero": (
        Cosine(PEAK, STEPS),
        lambda s: PEAK * math.cos(math.pi / 2 * min(s, STEPS) / STEPS) ** 2,
    ),
    "square root": (
        SquareRoot(PEAK, STEPS, END),
        lambda s: PEAK - (PEAK - END) * (min(s, STEPS) / STEPS) ** 0.5,
    ),
    "square root to zero": (
        SquareRoot(PEAK, STEPS),
        lambda s: PEAK * (1 - (min(s, STEPS) / STEPS) ** 0.5),
    ),
    "step": (Step(PEAK, 7, 0.5), lambda s: PEAK * 0.5 ** math.floor(s / 7)),
    "step by ten": (Step(PEAK, 7), lambda s: PEAK / 10 ** (s // 7)),
    "exponential": (Exponential(PEAK, 0.9), lambda s: PEAK * math.exp(s * math.log(0.9))),
    "restarts": (
        CosineRestarts(PEAK, 6, end=END),
        lambda s: Cosine(PEAK, 6, END)(s % 6),
    ),
    "restarts to zero": (CosineRestarts(PEAK, 6), lambda s: Cosine(PEAK, 6)(s % 6)),
    # periods of 6, 12, 24 and 48 steps
    "growing restarts": (
        CosineRestarts(PEAK, 6, 2, END),
        lambda s: next(
            Cosine(PEAK, 6 * 2**k, END)(s - 6 * (2**k - 1))
            for k in range(9)
            if s < 6 * (2 ** (k + 1) - 1)
        ),
    ),
}


@pytest.mark.parametrize("name", CLOSED_FORMS)
def test_a_schedule_is_its_closed_form(name):
    schedule, form = CLOSED_FORMS[name]
    for step in range(80):
        assert schedule(step) == pytest.approx(form(step), rel=1e-12, abs=1e-15)


@pytest.mark.parametrize("shape", DECAYS)
@pytest.mark.parametrize("warmup", [0, 5])
def test_warm_up_stable_decay_has_three_parts(warmup, shape):
    schedule = warmup_stable_decay(PEAK, warmup=warmup, stable=9, decay=STEPS, end=END, shape=shape)
    decay = {
        "constant": lambda x: 1.0,
        "linear": lambda x: 1 - x,
        "cosine": lambda x: (1 + math.cos(math.pi * x)) / 2,
        "sqrt": lambda x: 1 - math.sqrt(x),
    }[shape]
    wanted = [PEAK * (s + 1) / warmup for s in range(warmup)] + [PEAK] * 9
    wanted += [END + (PEAK - END) * decay(s / STEPS) for s in range(STEPS + 1)]
    assert [schedule(s) for s in range(len(wanted))] == pytest.approx(wanted, rel=1e-12)
    assert schedule(10_000) == pytest.approx(wanted[-1], rel=1e-12)


def test_the_default_decay_is_linear_to_zero():
    schedule = warmup_stable_decay(PEAK, warmup=2, stable=3, decay=4)
    wanted = [PEAK / 2, *[PEAK] * 5, PEAK * 0.75, PEAK * 0.5, PEAK * 0.25, 0.0]
    assert [schedule(s) for s in range(10)] == pytest.approx(wanted, rel=1e-12)


def test_an_unknown_shape_of_the_decay_is_refused():
    with pytest.raises(ConfigError, match="shape is 'steep'"):
        warmup_stable_decay(PEAK, warmup=1, stable=1, decay=1, shape="steep")


def test_joined_schedules_each_count_their_own_steps():
    schedule = joined((Linear(1.0, 4), 3), (Constant(9.0), 0), (Constant(7.0), 2), Linear(2.0, 2))
    assert [schedule(s) for s in range(8)] == [1.0, 0.75, 0.5, 7.0, 7.0, 2.0, 1.0, 0.0]


def test_a_single_schedule_joined_is_itself():
    assert [joined(Linear(1.0, 4))(s) for s in range(5)] == [1.0, 0.75, 0.5, 0.25, 0.0]


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ((), "the last schedule has no end"),
        (((Constant(1.0), 3),), "the last schedule has no end"),
        ((Constant(1.0), Constant(2.0)), r"Constant\(rate=1.0\) has no number of steps"),
        (((Constant(1.0), -1), Constant(2.0)), "2 schedules with milestones"),
        (((Constant(1.0), 5), (Constant(1.0), -1), Constant(2.0)), r"milestones \(5, 4\)"),
    ],
)
def test_what_cannot_be_joined_is_refused(parts, message):
    with pytest.raises(ConfigError, match=message):
        joined(*parts)


def test_every_two_schedules_need_a_milestone_between_them():
    with pytest.raises(ConfigError, match=r"2 schedules with milestones \(1, 2\)"):
        Joined((Constant(1.0), Constant(2.0)), (1, 2))


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda: Warmup(PEAK, 0), "steps"),
        (lambda: Linear(PEAK, 0), "steps"),
        (lambda: Polynomial(PEAK, 0), "steps"),
        (lambda: Cosine(PEAK, 0), "steps"),
        (lambda: SquareRoot(PEAK, 0), "steps"),
        (lambda: CosineRestarts(PEAK, 0), "period"),
        (lambda: CosineRestarts(PEAK, 5, 0), "growth"),
        (lambda: Step(PEAK, 0), "every"),
    ],
)
def test_a_length_of_less_than_one_step_is_refused(make, name):
    with pytest.raises(ConfigError, match=f"{name} is 0 in"):
        make()


RATES = st.floats(1e-6, 10)
LENGTHS = st.integers(1, 50)
SIMPLE = st.one_of(
    st.builds(Constant, RATES),
    st.builds(Warmup, RATES, LENGTHS),
    st.builds(Linear, RATES, LENGTHS, RATES),
    st.builds(Cosine, RATES, LENGTHS, RATES),
    st.builds(Polynomial, RATES, LENGTHS, st.floats(0.5, 3), RATES),
    st.builds(CosineRestarts, RATES, LENGTHS, st.integers(1, 3), RATES),
)


@pytest.mark.tier2
@given(a=SIMPLE, b=SIMPLE, c=SIMPLE, first=LENGTHS, second=LENGTHS, step=st.integers(0, 200))
def test_joining_is_associative(a, b, c, first, second, step):
    flat = joined((a, first), (b, second), c)
    left = joined((joined((a, first), b), first + second), c)
    right = joined((a, first), joined((b, second), c))
    assert flat(step) == left(step) == right(step)


@pytest.mark.tier2
@given(schedule=SIMPLE, cut=LENGTHS, step=st.integers(0, 100))
def test_what_comes_after_a_milestone_changes_nothing_before(schedule, cut, step):
    cut_off = joined((schedule, cut), Constant(123.0))
    assert cut_off(step) == (schedule(step) if step < cut else 123.0)


@pytest.mark.tier2
@pytest.mark.parametrize("kind", [Linear, Cosine, Polynomial, SquareRoot])
@given(start=RATES, end=RATES, steps=LENGTHS, step=st.integers(0, 100))
def test_a_decay_stays_between_its_ends_and_reaches_both(kind, start, end, steps, step):
    schedule = kind(start, steps, end=end)
    low, high = min(start, end), max(start, end)
    assert low * (1 - 1e-12) <= schedule(step) <= high * (1 + 1e-12)
    assert schedule(0) == pytest.approx(start, rel=1e-12)
    assert schedule(steps) == pytest.approx(end, rel=1e-12)
    assert (schedule(step + 1) - schedule(step)) * (end - start) >= -1e-12


@pytest.mark.parametrize("kind", [Linear, Cosine, Polynomial, SquareRoot])
@pytest.mark.parametrize(("start", "end"), [(1e-6, 9.0), (9.0, 1e-6)])
def test_both_ends_are_exact_however_far_apart(kind, start, end):
    schedule = kind(start, 10, end=end)
    assert (schedule(0), schedule(10)) == (start, end)


@pytest.mark.tier2
@given(rate=RATES, factor=st.floats(0.5, 1.0), a=st.integers(0, 50), b=st.integers(0, 50))
def test_exponential_decay_turns_sums_into_products(rate, factor, a, b):
    schedule = Exponential(rate, factor)
    wanted = schedule(a) * schedule(b) / rate
    assert schedule(a + b) == pytest.approx(wanted, rel=1e-12)


def test_schedules_compare_by_their_values():
    assert joined((Warmup(1.0, 2), 2), Cosine(1.0, 5)) == joined(
        (Warmup(1.0, 2), 2), Cosine(1.0, 5)
    )
    assert Cosine(1.0, 5) != Cosine(1.0, 6)


@pytest.mark.parametrize(
    "schedule",
    [
        *(schedule for schedule, _ in CLOSED_FORMS.values()),
        joined((Constant(1.0), 2), Step(1.0, 3)),
    ],
    ids=str,
)
def test_a_schedule_cannot_be_changed(schedule):
    with pytest.raises(FrozenInstanceError):
        schedule.start = 1.0
    assert hash(schedule) == hash(replace(schedule))
