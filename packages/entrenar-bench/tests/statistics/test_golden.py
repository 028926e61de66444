"""Known values: of the distributions, of textbooks, of other libraries' definitions."""

import math

import numpy as np
import pytest
from scipy import stats

from entrenar_bench.statistics import effects, exact, multiplicity, noncentral, power
from entrenar_bench.statistics.equivalence import equivalence_p
from entrenar_bench.statistics.t_tests import interval, paired_t, two_sided_p, welch_t
from entrenar_common.errors import ConfigError, ShapeError

rng = np.random.default_rng(1)
SAMPLES = [
    (rng.normal(0.3, 1, n), rng.normal(0, scale, m))
    for n, m, scale in [(3, 3, 1), (5, 5, 4), (10, 6, 0.1), (4, 30, 1)]
]


@pytest.mark.parametrize(
    ("t", "df", "p"),
    [(2, 4, 0.11612), (3, 4, 0.03994), (2.776, 4, 0.05002), (2.306, 8, 0.05), (2.5, 2.5, 0.10457)],
)
def test_p_of_a_t_is_the_tables(t, df, p):
    assert two_sided_p(t, df) == pytest.approx(p, abs=5e-6)


@pytest.mark.parametrize(("a", "b"), SAMPLES)
def test_welch_is_scipys(a, b):
    ours, theirs = welch_t(a, b), stats.ttest_ind(a, b, equal_var=False)
    between = theirs.confidence_interval(0.95)
    assert [ours.t, ours.p, ours.df, ours.low, ours.high] == pytest.approx(
        [theirs.statistic, theirs.pvalue, theirs.df, between.low, between.high], rel=1e-12
    )


@pytest.mark.parametrize("a", [a for a, _ in SAMPLES])
def test_paired_t_is_scipys(a):
    b = np.sin(a) + np.arange(a.size)
    ours, theirs = paired_t(a, b), stats.ttest_rel(a, b)
    between = theirs.confidence_interval(0.95)
    assert [ours.t, ours.p, ours.low, ours.high] == pytest.approx(
        [theirs.statistic, theirs.pvalue, between.low, between.high], rel=1e-12
    )


def test_tests_work_on_the_last_axis():
    a, b = rng.normal(size=(4, 3, 6)), rng.normal(size=(4, 3, 5))
    found = welch_t(a, b)
    assert found.p.shape == (4, 3)
    assert found.p[2, 1] == welch_t(a[2, 1], b[2, 1]).p


@pytest.mark.parametrize(
    ("n", "p"), [(3, 0.25), (4, 0.125), (5, 0.0625), (6, 0.03125), (8, 0.0078125)]
)
def test_the_smallest_p_of_a_sign_flip_is_2_to_the_1_minus_n(n, p):
    found = exact.sign_flip(np.arange(1.0, n + 1))
    assert found.p == found.smallest == p
    assert found.can_be_significant == (n >= 6)


@pytest.mark.parametrize(("n", "p"), [(3, 0.1), (4, 2 / 70), (5, 2 / 252)])
def test_the_smallest_p_of_mann_whitney_is_2_of_all_choices(n, p):
    found = exact.mann_whitney(np.arange(n), np.arange(n) + n)
    assert [found.p, found.smallest] == pytest.approx([p, p], rel=1e-12)
    assert found.can_be_significant == (n >= 4)


def test_a_test_that_cannot_be_significant_says_how_many_runs_it_takes():
    assert exact.sign_flip([1, 2, 3, 4, 5]).note == (
        "sign-flip test: p is at least 0.0625 with so few pairs, so it can never reach 0.05; "
        "needs >= 6 pairs"
    )
    assert "needs >= 4 runs per arm" in exact.mann_whitney([1, 2, 3], [4, 5, 6]).note
    assert exact.sign_flip([1, 2, 3, 4, 5, 6]).note is None


@pytest.mark.parametrize("n", [2, 7, 12])
def test_a_sign_flip_is_scipys_permutation_test(n):
    apart = rng.normal(0.4, 1, n)
    theirs = stats.permutation_test(
        (apart,), lambda x, axis: x.mean(axis), permutation_type="samples", n_resamples=np.inf
    )
    assert exact.sign_flip(apart).p == pytest.approx(theirs.pvalue, rel=1e-12)


@pytest.mark.parametrize(("a", "b"), SAMPLES)
def test_mann_whitney_is_scipys_exact_one(a, b):
    theirs = stats.mannwhitneyu(a, b, method="exact").pvalue
    assert exact.mann_whitney(a, b).p == pytest.approx(theirs, rel=1e-10)


def test_mann_whitney_with_ties_is_a_permutation_of_ranks():
    a, b = np.array([1.0, 2, 2, 5]), np.array([2.0, 3, 5, 6, 6])
    ranks = stats.rankdata(np.concatenate([a, b]))
    theirs = stats.permutation_test(
        (ranks[:4], ranks[4:]), lambda x, _y, axis: x.sum(axis), n_resamples=np.inf
    )
    assert exact.mann_whitney(a, b).p == pytest.approx(theirs.pvalue, rel=1e-10)


@pytest.mark.parametrize(("n", "j"), [(3, 0.80), (5, 0.903), (10, 0.958)])
def test_hedges_correction_of_two_arms(n, j):
    digits = 2 if n == 3 else 3
    assert round(effects.correction(2 * n - 2), digits) == j


def test_hedges_correction_takes_the_bias_out():
    """The mean of Cohen's d of n = 3 is δ/J of the noncentral t's mean; g is unbiased."""
    df, delta = 4, 1.0
    mean_t = stats.nct(df, delta / math.sqrt(2 / 3)).mean()
    assert mean_t * math.sqrt(2 / 3) * effects.correction(df) == pytest.approx(delta, rel=1e-9)


@pytest.mark.parametrize(
    ("t", "df"), [(2.0, 4), (-0.3, 2), (7.5, 9), (-40.0, 4), (0.0, 300), (9.99e3, 4)]
)
def test_limits_of_a_noncentrality_leave_a_tail_on_each_side(t, df):
    low, high = noncentral.limits(t, df, confidence=0.95)
    assert stats.nct.sf(t, df, low) == pytest.approx(0.025, abs=1e-6)
    assert stats.nct.cdf(t, df, high) == pytest.approx(0.025, abs=1e-6)


def test_limits_go_on_where_t_is_huge():
    below, above = (
        np.array(noncentral.limits(t, 5, confidence=0.9)) / t for t in (9999.0, 10001.0)
    )
    assert below == pytest.approx(above, rel=1e-6)


@pytest.mark.parametrize(
    ("n", "welch", "paired"),
    [(3, 3.07, 3.26), (5, 2.02, 1.68), (8, 1.51, 1.16), (10, 1.32, 1.00), (20, 0.91, 0.66)],
)
def test_the_effect_found_with_80_percent_power(n, welch, paired):
    """Student's noncentral t, which Welch's power comes up to and never passes."""
    assert power.paired_power(paired, n) == pytest.approx(0.8, abs=0.01)
    critical = stats.t.isf(0.025, 2 * n - 2)
    student = noncentral.rejects(welch * math.sqrt(n / 2), 2 * n - 2, critical)
    assert student == pytest.approx(0.8, abs=0.01)
    assert student - 0.12 < power.welch_power(welch, n) < student


def test_pairing_by_seed_finds_what_independent_runs_do_not():
    """True effect of one standard deviation of a run, n = 5, correlation 0.8 and 0.5."""
    for correlation, expected in ((0.8, 0.75), (0.5, 0.41)):
        d_z = 1 / math.sqrt(2 * (1 - correlation))
        assert power.paired_power(d_z, 5) == pytest.approx(expected, abs=0.01)
    assert power.welch_power(1.0, 5) == pytest.approx(0.27, abs=0.01)


@pytest.mark.parametrize("effect", [0.3, 1.0, 2.5])
def test_the_seeds_needed_are_the_fewest_with_the_power(effect):
    for fewest, power_of in (
        (power.paired_seeds(effect), power.paired_power),
        (power.welch_seeds(effect), power.welch_power),
    ):
        assert power_of(effect, fewest) >= 0.8
        assert fewest == 2 or power_of(effect, fewest - 1) < 0.8


def test_no_number_of_seeds_finds_an_effect_that_is_not_there():
    assert power.paired_seeds(0.0) is power.welch_seeds(float("nan")) is None
    assert power.paired_seeds(1e-6) is None


@pytest.mark.parametrize("n", [3, 10, 40])
def test_mean_and_effect_of_pairs_are_what_their_formulas_say(n):
    a, b = rng.normal(1, 1, n), rng.normal(0, 2, n)
    j = effects.correction(n - 1)
    apart = a - b
    assert effects.d_z(a, b).value == pytest.approx(j * apart.mean() / apart.std(ddof=1))
    between = math.sqrt((a.var(ddof=1) + b.var(ddof=1)) / 2)
    assert effects.d_av(a, b).value == pytest.approx(j * apart.mean() / between)


def test_wins_have_the_interval_of_clopper_and_pearson():
    found = effects.wins([1, 1, 1, 0, 1], [0, 0, 0, 1, 0])
    theirs = stats.binomtest(4, 5).proportion_ci()
    assert [found.value, found.low, found.high] == pytest.approx([0.8, theirs.low, theirs.high])


def test_half_a_win_widens_the_interval_on_both_sides():
    tie = effects.wins([1, 1, 0], [0, 0, 0])
    low = stats.binomtest(2, 3).proportion_ci().low
    high = stats.binomtest(3, 3).proportion_ci().high
    assert [tie.value, tie.low, tie.high] == pytest.approx([2.5 / 3, low, high])


@pytest.mark.parametrize(("a", "b"), SAMPLES)
def test_superiority_is_mann_whitneys_u(a, b):
    found = effects.superiority(a, b)
    assert found.value == stats.mannwhitneyu(a, b).statistic / (a.size * b.size)
    assert found.low < found.value < found.high
    other = effects.superiority(b, a)
    assert [1 - other.high, 1 - other.low] == pytest.approx([found.low, found.high], abs=1e-9)


def test_benjamini_and_hochbergs_is_scipys():
    p = rng.uniform(size=40) ** 3
    assert multiplicity.benjamini_hochberg(p) == pytest.approx(
        stats.false_discovery_control(p), rel=1e-12
    )


def test_holms_is_the_stepwise_procedure():
    """Rejects at α exactly those that the procedure of 1979, done step by step, rejects."""
    p = rng.uniform(size=12) ** 4
    adjusted = multiplicity.holm(p)
    for alpha in (0.001, 0.01, 0.05, 0.3):
        rejected = set()
        for step, i in enumerate(np.argsort(p)):
            if p[i] > alpha / (p.size - step):
                break
            rejected.add(i)
        assert set(np.flatnonzero(adjusted <= alpha)) == rejected


@pytest.mark.parametrize("adjust", multiplicity.CORRECTIONS.values())
def test_what_was_not_tested_does_not_count(adjust):
    adjusted = adjust([0.01, math.nan, 0.03])
    assert math.isnan(adjusted[1])
    assert list(adjusted[[0, 2]]) == list(adjust([0.01, 0.03]))


def test_equivalence_is_an_interval_of_90_percent_inside_the_margin():
    a = rng.normal(0.1, 1, 12)
    inside = interval(a, confidence=0.9)
    edge = float(max(-inside.low, inside.high))
    test = interval(a)
    assert equivalence_p(test, margin=edge) == pytest.approx(0.05, rel=1e-9)
    assert equivalence_p(test, margin=edge * 1.01) < 0.05 < equivalence_p(test, margin=edge * 0.99)


def test_equivalence_is_the_larger_of_two_one_sided_tests():
    a = rng.normal(0.1, 1, 9)
    sides = [
        stats.ttest_1samp(a, -0.8, alternative="greater").pvalue,
        stats.ttest_1samp(a, 0.8, alternative="less").pvalue,
    ]
    assert equivalence_p(interval(a), margin=0.8) == pytest.approx(max(sides), rel=1e-12)


@pytest.mark.parametrize("margin", [0.0, -1.0, math.inf, math.nan])
def test_a_margin_that_is_none_is_refused(margin):
    with pytest.raises(ConfigError, match="margin"):
        equivalence_p(interval([1, 2, 3]), margin=margin)


def test_pairs_that_are_not_as_many_are_refused():
    with pytest.raises(ShapeError, match=r"\(3,\) runs are paired with \(2,\)"):
        paired_t([1, 2, 3], [1, 2])


@pytest.mark.parity
def test_welch_equivalence_and_corrections_are_statsmodels():
    weightstats = pytest.importorskip("statsmodels.stats.weightstats")
    multitest = pytest.importorskip("statsmodels.stats.multitest")
    paired = pytest.importorskip("statsmodels.stats.power").TTestPower()
    for a, b in SAMPLES:
        theirs = weightstats.ttest_ind(a, b, usevar="unequal")
        assert [welch_t(a, b).t, welch_t(a, b).p, welch_t(a, b).df] == pytest.approx(theirs)
        tost = weightstats.ttost_ind(a, b, -1.5, 1.5, usevar="unequal")[0]
        assert equivalence_p(welch_t(a, b), margin=1.5) == pytest.approx(tost)
    p = rng.uniform(size=25) ** 3
    for ours, name in ((multiplicity.holm, "holm"), (multiplicity.benjamini_hochberg, "fdr_bh")):
        assert ours(p) == pytest.approx(multitest.multipletests(p, method=name)[1])
    for n in (3, 5, 12):
        assert power.paired_power(0.9, n) == pytest.approx(paired.power(0.9, n, 0.05), abs=1e-6)
