"""What a comparison says of runs, also of those it can say little of."""

import math

import numpy as np
import pytest

from entrenar_bench.statistics import State, Verdict, compare, compare_arms
from entrenar_common.errors import ConfigError, NotFoundError
from entrenar_common.tables import to_json
from entrenar_common.testing import render_plain

LOW, HIGH = [1.0, 1.1, 0.9, 1.2, 1.05], [2.0, 2.3, 1.9, 2.1, 2.2]
NOISY = [1.0, 3.0, 2.0, 2.5, 1.5], [1.5, 2.0, 2.6, 3.5, 1.0]


@pytest.mark.parametrize(
    ("goal", "verdict"), [("lower", Verdict.BETTER), ("higher", Verdict.WORSE)]
)
@pytest.mark.parametrize("design", ["paired", "independent"])
def test_the_goal_decides_what_a_difference_means(goal, verdict, design):
    assert compare(LOW, HIGH, goal=goal, design=design).verdict is verdict


@pytest.mark.parametrize("design", ["paired", "independent"])
def test_exchanging_the_arms_turns_the_sign_and_keeps_p(design):
    one, other = compare(LOW, HIGH, design=design), compare(HIGH, LOW, design=design)
    assert one.p == other.p
    assert (one.estimate, one.low, one.high) == (-other.estimate, -other.high, -other.low)
    assert one.effects[0].value == pytest.approx(-other.effects[0].value)


@pytest.mark.parametrize("design", ["paired", "independent"])
def test_a_difference_that_is_not_shown_says_how_many_seeds_it_takes(design):
    found = compare(*NOISY, design=design)
    assert found.verdict is Verdict.INCONCLUSIVE
    assert found.more_seeds > 0
    assert f"needs {found.more_seeds} more seeds" in found.sentence


def test_a_difference_inside_the_margin_is_equivalent_though_it_is_not_0():
    found = compare(LOW, HIGH, margin=2.0)
    assert found.p < 0.05
    assert found.verdict is Verdict.EQUIVALENT
    assert "within 2" in found.sentence


def test_no_difference_is_not_equivalence_without_a_margin():
    assert compare(*NOISY).verdict is Verdict.INCONCLUSIVE
    assert compare(*NOISY, margin=10.0).verdict is Verdict.EQUIVALENT
    assert compare(*NOISY, margin=0.1).verdict is Verdict.INCONCLUSIVE


@pytest.mark.parametrize("design", ["paired", "independent"])
@pytest.mark.parametrize(
    ("arm", "baseline", "state"),
    [
        ([1.0], [2.0], State.TOO_FEW),
        ([], [], State.TOO_FEW),
        ([1.0, math.nan], [2.0, 2.1], State.NOT_FINITE),
        ([1.0, math.inf], [2.0, 2.1], State.NOT_FINITE),
        ([1.0, 1.0, 1.0], [2.0, 2.0, 2.0], State.NO_VARIANCE),
        ([3.0, 3.0], [3.0, 3.0], State.NO_VARIANCE),
    ],
)
def test_where_no_test_applies_there_is_a_state_and_no_p(arm, baseline, state, design):
    found = compare(arm, baseline, design=design, margin=100.0)
    assert found.state is state
    assert found.verdict is Verdict.INCONCLUSIVE
    assert math.isnan(found.p)
    assert math.isnan(found.low)
    assert "inconclusive" in found.sentence
    assert "NaN" not in to_json(found)


def test_differences_that_vary_by_rounding_do_not_vary():
    a = np.array([0.1, 0.2, 0.3, 0.7, 1.9])
    found = compare(a + 0.1, a)
    assert np.ptp(a + 0.1 - a) > 0  # though not by much
    assert found.state is State.NO_VARIANCE
    assert "the difference is 0.1 in every run" in found.sentence


def test_one_constant_arm_can_be_compared_with_one_that_varies():
    assert compare([1.0, 1.0, 1.0], [2.0, 2.2, 2.1], design="independent").state is State.TESTED


def test_few_seeds_are_said_to_be_too_few_for_the_exact_test():
    found = compare(LOW, HIGH)
    assert found.verdict is Verdict.BETTER
    assert found.exact.p == 0.0625
    assert any("needs >= 6 pairs" in note for note in found.notes)


def test_two_tests_that_disagree_are_both_reported():
    a = np.array([0.1, 0.1, 0.1, 0.1, 0.1, 3.0, 0.1, 0.1])
    found = compare(a, np.zeros(8))
    assert found.p > 0.05 > found.exact.p
    assert any("disagree" in note for note in found.notes)


def test_the_view_says_what_the_interval_is_over():
    shown = render_plain(compare(LOW, HIGH, metric="loss", names=("kd", "plain")), width=120)
    assert shown.startswith("kd is better than plain by 1.05")
    assert "5 pairs: runs that differ in their seed" in shown


def arms(*values: list[float]) -> dict[str, dict[int, float]]:
    return {name: dict(enumerate(runs)) for name, runs in zip("abcdef", values, strict=False)}


def test_all_pairs_are_adjusted_together():
    found = compare_arms(arms(LOW, HIGH, NOISY[0]))
    assert [(c.arm, c.baseline) for c in found.comparisons] == [("a", "b"), ("a", "c"), ("b", "c")]
    assert found.comparisons[0].p_adjusted == pytest.approx(3 * found.comparisons[0].p)
    assert {c.adjusted_for for c in found.comparisons} == {3}


def test_with_a_baseline_every_other_arm_is_compared_with_it():
    found = compare_arms(arms(LOW, HIGH, NOISY[0]), baseline="b", correction="bh")
    assert [(c.arm, c.baseline) for c in found.comparisons] == [("a", "b"), ("c", "b")]


def test_what_is_significant_alone_may_not_be_among_many():
    slightly = list(np.subtract(NOISY[0], [0.1, 0.5, 0.3, 0.6, 0.2]))
    found = compare_arms(arms(NOISY[0], slightly, NOISY[1])).comparisons[0]
    assert found.p < 0.05 < found.p_adjusted
    assert found.verdict is Verdict.INCONCLUSIVE
    assert any("not among 3 comparisons" in note for note in found.notes)


def test_runs_are_paired_by_seed_and_others_are_noted():
    runs = {"a": {2: 1.0, 0: 2.0, 1: 3.0}, "b": {0: 2.5, 1: 3.1, 2: 1.2, 9: 7.0}}
    found = compare_arms(runs)
    assert found.comparisons[0].runs == (3, 3)
    assert found.comparisons[0].estimate == pytest.approx(-0.8 / 3)
    assert found.notes == ("a against b: only one of them has seed 9; it is not compared",)


def test_a_baseline_that_is_no_arm_is_refused_with_the_nearest():
    with pytest.raises(NotFoundError) as caught:
        compare_arms({"distilled": {}, "control": {}}, baseline="contrl")
    assert "did you mean control?" in caught.value.hint


def test_an_alpha_that_is_no_rate_is_refused():
    with pytest.raises(ConfigError, match="alpha"):
        compare(LOW, HIGH, alpha=5)
