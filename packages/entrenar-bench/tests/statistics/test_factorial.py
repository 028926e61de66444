"""Effects of a factorial, beside least squares with coded columns and scipy's t test."""

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from entrenar_bench.statistics import State, factorial_effects, holm
from entrenar_bench.statistics.factorial import contrasts
from entrenar_bench.statistics.t_tests import interval
from entrenar_common.errors import ConfigError

PARTS = "abcd"


def lacking(k):
    """Arms by name, the last one with all parts: what each of them lacks."""
    subsets = itertools.chain(*(itertools.combinations(PARTS[:k], n) for n in range(k, -1, -1)))
    return {f"without {''.join(lacks)}": lacks for lacks in subsets}


def runs_of(value, k, seeds):
    """`value(parts there, seed)` of every arm and seed."""
    return {
        arm: {seed: value(set(PARTS[:k]) - set(lacks), seed) for seed in range(seeds)}
        for arm, lacks in lacking(k).items()
    }


def random_runs(k, seeds, key=0):
    drawn = np.random.default_rng([3, k, seeds, key])
    return runs_of(lambda there, seed: len(there) + seed + float(drawn.normal()), k, seeds)


def by_name(found):
    return {effect.name: effect for effect in found.effects}


@pytest.mark.parametrize("k", [1, 2, 3, 4])
def test_effects_are_twice_the_coefficients_of_least_squares(k):
    runs, lacks = random_runs(k, 5), lacking(k)
    coded = np.array([[-1 if p in lacks[arm] else 1 for p in PARTS[:k]] for arm in runs])
    chosen = [s for n in range(1, k + 1) for s in itertools.combinations(range(k), n)]
    model = np.column_stack([np.ones(2**k), *(coded[:, list(s)].prod(1) for s in chosen)])
    values = np.array([[runs[arm][seed] for seed in range(5)] for arm in runs])
    coefficients = np.linalg.lstsq(model, values, rcond=None)[0][1:]  # of each effect and seed
    found = by_name(factorial_effects(runs, lacks))
    assert len(found) == 2**k - 1
    for places, expected in zip(chosen, 2 * coefficients, strict=True):
        effect = found[" × ".join(PARTS[p] for p in places)]
        assert effect.values == pytest.approx(expected)
        test = stats.ttest_1samp(expected, 0)
        low, high = test.confidence_interval(0.95)
        shown = (effect.estimate, effect.low, effect.high, effect.p)
        assert shown == pytest.approx((expected.mean(), low, high, test.pvalue))


def test_effects_are_those_that_runs_were_made_of():
    """With y = 3a − 2b + 5ab and parts of 0 or 1, an interaction is split between its parts."""

    def made(there, seed):
        a, b = "a" in there, "b" in there
        return 3 * a - 2 * b + 5 * a * b + seed * seed

    found = by_name(factorial_effects(runs_of(made, 2, 4), lacking(2)))
    assert {name: effect.estimate for name, effect in found.items()} == {
        "a": pytest.approx(3 + 5 / 2),
        "b": pytest.approx(-2 + 5 / 2),
        "a × b": pytest.approx(5 / 2),
    }


def test_p_is_adjusted_for_all_effects_by_holm():
    found = factorial_effects(random_runs(3, 4), lacking(3))
    ranked = sorted(found.effects, key=lambda effect: effect.p)
    least = 0.0
    for place, effect in enumerate(ranked):
        least = max(least, min(1.0, (7 - place) * effect.p))
        assert effect.p_adjusted == pytest.approx(least)


@pytest.mark.tier2
@pytest.mark.parametrize("n", [3, 5])
def test_without_any_effect_one_is_claimed_in_5_percent_of_studies_at_most(n):
    studies = 4000
    noise = np.random.default_rng(11).standard_normal((5, studies, n))
    cells = noise[:4] + 3 * noise[4]  # what a seed does to every arm is in no effect
    p = interval(contrasts(cells.reshape(4, -1)).reshape(3, studies, n)).p
    error = 4 * math.sqrt(0.05 * 0.95 / studies)
    assert np.mean(p <= 0.05, axis=1) == pytest.approx([0.05] * 3, abs=error)
    assert np.mean(holm(p.T).min(1) <= 0.05) <= 0.05 + error


def test_a_seed_that_an_arm_lacks_is_left_out_and_said():
    runs = random_runs(2, 4)
    del runs["without a"][2]
    found = factorial_effects(runs, lacking(2))
    assert found.seeds == (0, 1, 3)
    assert "seed 2" in found.notes[0]
    kept = {arm: {s: v for s, v in values.items() if s != 2} for arm, values in runs.items()}
    assert found.effects == factorial_effects(kept, lacking(2)).effects


@pytest.mark.parametrize(
    ("runs", "state"),
    [
        (runs_of(lambda there, seed: len(there) + seed, 2, 1), State.TOO_FEW),
        ({}, State.TOO_FEW),
        (runs_of(lambda there, seed: len(there) + seed, 2, 3), State.NO_VARIANCE),
        (runs_of(lambda there, seed: math.nan if seed else 1.0, 2, 3), State.NOT_FINITE),
    ],
    ids=["one seed", "no runs", "equal in every seed", "NaN"],
)
def test_where_no_test_applies_there_is_a_state_and_no_p(runs, state):
    for effect in factorial_effects(runs, lacking(2)).effects:
        assert effect.state is state
        assert math.isnan(effect.p) and math.isnan(effect.low) and math.isnan(effect.p_adjusted)


def test_parts_that_depend_on_each_other_are_named():
    drawn = np.random.default_rng(4)

    def made(there, _seed):
        return 4.0 * ("a" in there and "b" in there) + 0.01 * drawn.normal()

    found = factorial_effects(runs_of(made, 2, 5), lacking(2))
    assert found.notes[0].startswith("parts depend on each other (a × b)")


@pytest.mark.parametrize(
    "lacks",
    [
        {"full": (), "without a": ("a",), "without b": ("b",)},
        {"full": (), "again": ()},
        {"full": (), "without a": ("a",), "with a": ("a",), "without b": ("b",)},
        {},
    ],
)
def test_what_is_no_factorial_is_refused(lacks):
    with pytest.raises(ConfigError, match="every combination"):
        factorial_effects({}, lacks)


def test_an_alpha_that_is_no_probability_is_refused():
    with pytest.raises(ConfigError, match="alpha"):
        factorial_effects(random_runs(1, 3), lacking(1), alpha=1.0)
