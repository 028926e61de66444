"""Correlations and their intervals: against numpy, ranks counted one by one, and scipy."""

import numpy as np
import pytest

from entrenar_core.rng import stream
from entrenar_distill.correlations import correlations, spearman
from entrenar_distill.statistics import draws

COUNT = 25


@pytest.fixture(scope="module")
def drawn():
    """Scores with ties, and what two models say of the same pairs."""
    rng = np.random.default_rng(5)
    scores = rng.integers(0, 6, COUNT).astype(float)
    return scores, {"a": scores + rng.normal(size=COUNT), "b": rng.integers(0, 9, COUNT) / 9}


def counted_ranks(x):
    """1 + how many are smaller + half of the others that are equal, in each row of x (R, N)."""
    smaller = (x[:, None, :] < x[:, :, None]).sum(axis=2)
    return 1 + smaller + ((x[:, None, :] == x[:, :, None]).sum(axis=2) - 1) / 2


def correlation(x, y):
    """That of each row of x and y (R, N)."""
    x, y = (each - each.mean(axis=1, keepdims=True) for each in (x, y))
    return (x * y).sum(axis=1) / np.sqrt((x * x).sum(axis=1) * (y * y).sum(axis=1))


def of_ranks(x, y):
    return correlation(counted_ranks(x), counted_ranks(y))


def resampled(statistic, *arrays):
    """The percentiles of a statistic of the sets of pairs that the bootstrap draws."""
    rows = np.concatenate([each for _, each in draws(COUNT, 10_000, stream(3, "bootstrap"))])
    return np.quantile(statistic(*(each[rows] for each in arrays)), [0.025, 0.975])


def test_pearson_is_numpys_and_its_interval_that_of_resampled_pairs(drawn):
    scores, models = drawn
    found = correlations(models, scores, seed=3, first="a")
    figure = found.models["a"]["pearson"]
    assert figure.value == pytest.approx(np.corrcoef(models["a"], scores)[0, 1], rel=1e-12)
    wanted = resampled(correlation, models["a"], scores)
    assert [figure.low, figure.high] == pytest.approx(wanted, rel=1e-9)


def test_ranks_are_taken_anew_in_each_resampled_set(drawn):
    scores, models = drawn
    found = correlations(models, scores, seed=3, first="a")
    figure = found.models["b"]["spearman"]
    assert figure.value == pytest.approx(of_ranks(models["b"][None], scores[None])[0])
    wanted = resampled(of_ranks, models["b"], scores)
    assert [figure.low, figure.high] == pytest.approx(wanted, rel=1e-9)


def test_differences_are_paired(drawn):
    scores, models = drawn
    twice = {**models, "again": models["a"] * 3 + 1}
    found = correlations(twice, scores, seed=3, first="a").differences
    for name in ("pearson", "spearman"):
        figure = found["again"][name]
        assert [figure.value, figure.low, figure.high] == pytest.approx([0, 0, 0], abs=1e-12)
        assert found["b"][name].low < found["b"][name].value < found["b"][name].high
    assert "a" not in found


def test_of_few_pairs_the_rank_correlation_has_no_bounds(drawn):
    scores, models = drawn
    found = correlations({"a": models["a"][:8]}, scores[:8], seed=3, first="a").models["a"]
    assert np.isnan(found["spearman"].low)
    assert found["pearson"].low < found["pearson"].value < found["pearson"].high


def test_what_does_not_vary_has_no_correlation(drawn):
    scores, _ = drawn
    found = correlations({"a": np.ones(COUNT)}, scores, seed=3, first="a").models["a"]
    assert np.isnan(found["spearman"].value)
    assert np.isnan(found["pearson"].value)


@pytest.mark.parity
def test_both_are_scipys(drawn):
    stats = pytest.importorskip("scipy.stats")
    scores, models = drawn
    found = correlations(models, scores, seed=3, first="a").models
    for name, each in models.items():
        assert found[name]["pearson"].value == pytest.approx(stats.pearsonr(each, scores).statistic)
        wanted = stats.spearmanr(each, scores).statistic
        assert found[name]["spearman"].value == pytest.approx(wanted, rel=1e-12)
        assert spearman(each, scores) == pytest.approx(wanted, rel=1e-12)
