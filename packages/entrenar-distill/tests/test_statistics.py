"""The paired bootstrap: exact distributions, closed forms, coverage, another implementation."""

import itertools
import math

import numpy as np
import pytest

from entrenar_common.errors import ShapeError
from entrenar_core.rng import stream
from entrenar_distill import statistics
from entrenar_distill.statistics import bits_per_byte_difference, paired_bootstrap


def test_the_estimate_is_the_ratio_of_the_sums_and_not_the_mean_of_the_ratios():
    assert paired_bootstrap([1.0, 30.0], [1.0, 10.0])[0] == pytest.approx(31 / 11)


def test_the_bounds_are_percentiles_of_all_possible_resamples():
    top, bottom = np.array([1.0, -2.0, 4.0, 0.5]), np.array([1.0, 3.0, 2.0, 5.0])
    ratios = [
        sum(top[list(drawn)]) / sum(bottom[list(drawn)])
        for drawn in itertools.product(range(4), repeat=4)
    ]
    _, low, high = paired_bootstrap(top, bottom, confidence=0.8, resamples=200_000)
    # The distribution has 4⁴ atoms: the drawn percentile is one of those around the exact one.
    assert np.quantile(ratios, 0.095) <= low <= np.quantile(ratios, 0.105)
    assert np.quantile(ratios, 0.895) <= high <= np.quantile(ratios, 0.905)


@pytest.mark.tier2
def test_with_equal_weights_the_interval_is_that_of_a_mean():
    values = stream(1, "test").normal(0.3, 2.0, size=2_000)
    estimate, low, high = paired_bootstrap(values, np.ones(2_000))
    error = values.std() / math.sqrt(2_000)
    assert [low, high] == pytest.approx([estimate - 1.96 * error, estimate + 1.96 * error], rel=0.1)


def test_documents_that_all_agree_leave_no_doubt():
    bytes_ = np.array([10.0, 200.0, 3.0])
    assert paired_bootstrap(-0.25 * bytes_, bytes_) == pytest.approx((-0.25, -0.25, -0.25))


def test_the_same_seed_gives_the_same_bounds_and_another_seed_others():
    values, weights = stream(2, "test").normal(size=50), np.arange(1.0, 51.0)
    first = paired_bootstrap(values, weights, seed=3)
    assert paired_bootstrap(values, weights, seed=3) == first
    assert paired_bootstrap(values, weights, seed=4) != first


def test_the_bounds_do_not_depend_on_how_much_is_drawn_at_a_time(monkeypatch):
    values, weights = stream(2, "test").normal(size=50), np.arange(1.0, 51.0)
    whole = paired_bootstrap(values, weights, resamples=100)
    monkeypatch.setattr(statistics, "_CHUNK_VALUES", 350)
    assert paired_bootstrap(values, weights, resamples=100) == whole


def test_higher_confidence_gives_a_wider_interval():
    values, weights = np.arange(9.0), np.ones(9)
    _, low, high = paired_bootstrap(values, weights, confidence=0.95)
    _, lower, higher = paired_bootstrap(values, weights, confidence=0.99)
    assert lower < low < high < higher


@pytest.mark.parametrize("values", [[1.0], [1.0, math.nan], [math.inf, 1.0]])
def test_nothing_is_claimed_of_one_document_or_of_what_is_not_finite(values):
    _, low, high = paired_bootstrap(values, np.ones(len(values)))
    assert math.isnan(low)
    assert math.isnan(high)


@pytest.mark.parametrize(("values", "weights"), [([], []), ([1.0], [1.0, 2.0]), ([[1.0]], [[1.0]])])
def test_values_that_are_not_one_for_each_document_are_refused(values, weights):
    with pytest.raises(ShapeError):
        paired_bootstrap(values, weights)


@pytest.mark.tier2
def test_the_interval_holds_the_truth_about_as_often_as_it_says():
    truth, documents, trials, hits = -0.05, 40, 500, 0
    for trial in range(trials):
        rng = stream(trial, "coverage")
        weights = rng.uniform(500, 5_000, documents)
        values = (truth + rng.normal(0, 0.05, documents)) * weights
        _, low, high = paired_bootstrap(values, weights, resamples=500, seed=trial)
        hits += low <= truth <= high
    # Binomial error of 500 trials: 0.01; percentile intervals are a little narrow at 40 documents.
    assert 0.90 < hits / trials < 0.975


def test_the_difference_is_in_bits_per_byte():
    found = bits_per_byte_difference(
        [math.log(2) * 10, math.log(2) * 20], [math.log(2) * 15, math.log(2) * 25], [10, 10]
    )
    assert found.bits_per_byte == pytest.approx(-0.5)
    assert (found.documents, found.confidence, found.resamples) == (2, 0.95, 10_000)


def test_student_and_control_on_different_documents_are_refused():
    with pytest.raises(ShapeError, match="documents"):
        bits_per_byte_difference([1.0, 2.0], [1.0], [1, 1])


@pytest.mark.parity
def test_bounds_agree_with_scipy():
    scipy_stats = pytest.importorskip("scipy.stats")
    rng = stream(5, "test")
    weights = rng.lognormal(8, 1, 60)
    values = rng.normal(-0.03, 0.05, 60) * weights
    theirs = scipy_stats.bootstrap(
        (values, weights),
        lambda top, bottom, axis: top.sum(axis=axis) / bottom.sum(axis=axis),
        paired=True,
        vectorized=True,
        method="percentile",
        n_resamples=50_000,
        rng=np.random.default_rng(0),
    ).confidence_interval
    _, low, high = paired_bootstrap(values, weights, resamples=50_000)
    assert [low, high] == pytest.approx([theirs.low, theirs.high], abs=0.02 * (high - low))
