"""What the statistics promise, on 20,000 simulated experiments: the shipped functions on arrays.

A share p of S experiments has the standard error √(p(1 − p)/S). Bounds are 4 of them: of all the
checks here together one fails by chance in fewer than 1 of 200 seeds.
"""

import math

import numpy as np
import pytest

from entrenar_bench.statistics import effects, exact, power
from entrenar_bench.statistics.bootstrap import bootstrap_mean, simulated_coverage
from entrenar_bench.statistics.multiplicity import holm
from entrenar_bench.statistics.t_tests import interval, paired_t, welch_t
from entrenar_common.errors import ConfigError

pytestmark = pytest.mark.tier2

EXPERIMENTS = 20_000
RUNS = (3, 5, 10, 30)


def error(share: float, experiments: int = EXPERIMENTS) -> float:
    return 4 * math.sqrt(share * (1 - share) / experiments)


def normal(*shape: int, key: int = 0) -> np.ndarray:
    return np.random.default_rng([7, key, *shape]).standard_normal(shape)


@pytest.mark.parametrize("n", RUNS)
def test_a_paired_t_rejects_a_true_null_in_5_percent_and_covers_95(n):
    common = 2 * normal(EXPERIMENTS, n, key=1)  # what a seed does to both arms
    found = paired_t(common + normal(EXPERIMENTS, n, key=2), common + normal(EXPERIMENTS, n))
    assert np.mean(found.p <= 0.05) == pytest.approx(0.05, abs=error(0.05))
    assert np.mean((found.low <= 0) & (found.high >= 0)) == pytest.approx(0.95, abs=error(0.95))


@pytest.mark.parametrize("n", RUNS)
def test_the_interval_leaves_0_out_exactly_where_p_is_below_alpha(n):
    found = interval(normal(EXPERIMENTS, n) + 0.3)
    assert ((found.low > 0) | (found.high < 0)).tolist() == (found.p < 0.05).tolist()


@pytest.mark.parametrize("n", RUNS)
def test_welch_rejects_a_true_null_in_no_more_than_5_percent(n):
    found = welch_t(normal(EXPERIMENTS, n, key=1), normal(EXPERIMENTS, n, key=2))
    assert np.mean(found.p <= 0.05) <= 0.05 + error(0.05)
    assert np.mean(found.p <= 0.05) == pytest.approx(power.welch_power(0.0, n), abs=error(0.05))


@pytest.mark.parametrize("n", [3, 5, 10])
def test_a_sign_flip_rejects_a_true_null_in_no_more_than_5_percent(n):
    share = np.mean(exact.sign_flip_p(normal(EXPERIMENTS, n)) <= 0.05)
    assert share <= 0.05 + error(0.05)
    assert (share == 0) == (n < exact.fewest_pairs(0.05))


@pytest.mark.parametrize("n", [3, 5, 10])
def test_mann_whitney_rejects_a_true_null_in_no_more_than_5_percent(n):
    a, b = normal(EXPERIMENTS, n, key=1), normal(EXPERIMENTS, n, key=2)
    above = (a[:, :, None] > b[:, None, :]).sum((1, 2))  # U decides p where there are no ties
    values, first = np.unique(above, return_index=True)
    of_u = {u: exact.mann_whitney(a[i], b[i]).p for u, i in zip(values, first, strict=True)}
    share = np.mean([of_u[u] <= 0.05 for u in above])
    assert share <= 0.05 + error(0.05)
    assert (share == 0) == (n < exact.fewest_runs(0.05))


@pytest.mark.parametrize("n", RUNS)
@pytest.mark.parametrize("effect", [0.5, 1.0, 2.0])
def test_power_is_what_the_noncentral_t_says(n, effect):
    paired = np.mean(interval(normal(EXPERIMENTS, n) + effect).p <= 0.05)
    assert paired == pytest.approx(power.paired_power(effect, n), abs=error(0.5))
    two = welch_t(normal(EXPERIMENTS, n, key=1) + effect, normal(EXPERIMENTS, n, key=2))
    assert np.mean(two.p <= 0.05) == pytest.approx(power.welch_power(effect, n), abs=error(0.5))


@pytest.mark.parametrize("n", [3, 5])
def test_holm_keeps_the_family_wise_rate_of_all_pairs_of_six_arms(n):
    arms = normal(EXPERIMENTS, 6, n)
    first, second = np.triu_indices(6, 1)
    p = paired_t(arms[:, first], arms[:, second]).p  # (experiments, 15)
    assert np.mean((holm(p) <= 0.05).any(-1)) <= 0.05 + error(0.05)
    assert np.mean((p <= 0.05).any(-1)) > 0.2  # what is without it


def covering(values, truth: float) -> float:
    return float(np.mean([found.low <= truth <= found.high for found in values]))


@pytest.mark.parametrize(
    ("effect", "truth"),
    [
        (lambda a, b: effects.d_z(a, b), 0.8 / math.sqrt(2)),
        (lambda a, b: effects.hedges_g(a, b), 0.8),
        (lambda a, b: effects.d_av(a, b), 0.8),
        (lambda a, b: effects.superiority(a, b), 0.5 * math.erfc(-0.4)),
        (lambda a, b: effects.wins(a, b), 0.5 * math.erfc(-0.4)),
    ],
    ids=["d_z", "g", "d_av", "P", "wins"],
)
def test_intervals_of_effects_cover(effect, truth):
    """400 experiments of 6 runs: at least 95 % less 4 standard errors."""
    a, b = normal(400, 6, key=1) + 0.8, normal(400, 6, key=2)
    assert covering(map(effect, a, b), truth) >= 0.95 - error(0.95, 400)


def test_the_bootstrap_prints_the_coverage_that_simulations_have():
    """The same interval, resampled afresh in every experiment."""
    n, experiments, generator = 20, 1500, np.random.default_rng(3)
    covered = 0
    for _ in range(experiments):
        runs = generator.standard_normal(n)
        means = runs[generator.integers(n, size=(1000, n))].mean(-1)
        low, high = np.quantile(means, [0.025, 0.975])
        covered += low <= 0 <= high
    found = bootstrap_mean(generator.standard_normal(n))
    assert found.coverage == pytest.approx(
        covered / experiments, abs=1.3 * error(0.92, experiments)
    )
    assert found.coverage == pytest.approx(0.92, abs=0.02)
    assert f"covered {found.coverage:.1%}" in found.note


def test_the_bootstrap_covers_more_with_more_runs():
    assert simulated_coverage(20) < simulated_coverage(60) < 0.96


def test_a_bootstrap_of_few_runs_is_refused():
    with pytest.raises(ConfigError, match="a bootstrap over 19 finite runs of 19: needs 20"):
        bootstrap_mean(np.arange(19.0))
