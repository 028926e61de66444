"""Intervals over documents: closed forms, another implementation, and how often they are right."""

import math

import numpy as np
import pytest

from entrenar_common.errors import ShapeError
from entrenar_core.rng import stream
from entrenar_distill.intervals import FEW, Sample, student_t
from entrenar_distill.statistics import paired_bootstrap


def ratio(sums):
    return sums[..., 0] / sums[..., 1]


def sample_of(values, weights=None, **options):
    weights = np.ones(len(values)) if weights is None else weights
    return Sample(np.column_stack([values, weights]), over="documents", **options)


@pytest.mark.parametrize(
    ("freedom", "wanted"), [(1, 12.7062), (2, 4.3027), (4, 2.7764), (8, 2.3060), (18, 2.1009)]
)
def test_the_quantiles_of_t_are_those_of_the_printed_tables(freedom, wanted):
    assert student_t(0.95, freedom) == pytest.approx(wanted, abs=5e-5)


def test_of_few_documents_of_one_size_the_interval_is_students():
    values = np.array([1.0, 4.0, 2.0, 2.5, 7.0])
    found = sample_of(values).figure(ratio)
    reach = student_t(0.95, 4) * values.std(ddof=1) / math.sqrt(5)
    assert found.value == pytest.approx(3.3)
    assert [found.low, found.high] == pytest.approx([3.3 - reach, 3.3 + reach])


def test_the_method_is_said_and_follows_from_the_number_of_documents():
    counts = (1, 2, FEW - 1, FEW)
    methods = [sample_of(np.arange(float(n))).how.method for n in counts]
    assert methods == ["none", "jackknife t", "jackknife t", "bootstrap"]
    assert "95 % intervals over 20 documents" in sample_of(np.arange(20.0)).how.sentence()
    assert "too few documents" in sample_of(np.arange(5.0)).how.sentence()


def test_many_documents_are_resampled_as_the_report_of_a_run_does():
    rng = stream(1, "test")
    values, weights = rng.normal(size=60), rng.uniform(1, 5, 60)
    found = sample_of(values, weights, seed=4).figure(ratio)
    theirs = paired_bootstrap(values, weights, seed=4)
    assert (found.value, found.low, found.high) == pytest.approx(theirs, rel=1e-12)


def test_a_difference_is_of_the_same_resampled_documents():
    """Two models that differ by the same amount everywhere leave no doubt, whatever both vary."""
    values = stream(1, "test").normal(size=40)
    sums = np.column_stack([values, values + 0.25, np.ones(40)])
    sample = Sample(sums, over="documents")
    found = sample.figure(lambda s: (s[..., 1] - s[..., 0]) / s[..., 2])
    assert (found.value, found.low, found.high) == pytest.approx((0.25, 0.25, 0.25))


def test_bounds_stay_where_the_figure_can_be():
    values = np.array([0.0, 0.0, 0.0, 0.1])
    found = sample_of(values).figure(ratio, least=0.0, most=1.0)
    assert found.low == 0.0
    assert 0.1 < found.high <= 1.0


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_nothing_is_claimed_of_what_is_not_finite(value):
    found = sample_of([1.0, value, *range(20)]).figure(ratio)
    assert math.isnan(found.low)
    assert math.isnan(found.high)


def test_one_document_says_nothing_of_how_they_vary():
    sample = sample_of([0.5])
    for found in (sample.figure(ratio), sample.share(ratio), sample.distance(slice(0, 1), 1)):
        assert found.value == 0.5
        assert math.isnan(found.low)


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_a_share_that_is_none_or_all_has_the_bound_of_so_many_trials(share):
    """(1 − p)ⁿ = 0.025: n trials without a hit are that improbable beyond the bound."""
    found = sample_of(np.full(30, share)).share(ratio)
    seen, bound = (found.low, found.high) if share == 0 else (found.high, found.low)
    assert seen == share
    assert (1 - abs(bound - share)) ** 30 == pytest.approx(0.025)


def test_a_figure_that_is_least_in_every_document_has_no_bounds():
    assert math.isnan(sample_of(np.zeros(30)).figure(ratio, least=0.0).high)


def gaps_of(rng, documents, truth):
    """Sums of documents whose parts are `truth` times their weight, but for noise."""
    weights = rng.uniform(100, 400, (documents, 1))
    noise = rng.normal(0, 0.05, (documents, len(truth)))
    return np.hstack([(np.asarray(truth) + noise) * weights, weights])


def test_a_distance_is_the_sum_of_absolute_parts():
    sums = gaps_of(stream(0, "test"), 30, [0.1, -0.2, 0.0])
    found = Sample(sums, over="documents").distance(slice(0, 3), 3)
    parts = np.abs(sums[:, :3].sum(axis=0))
    assert found.value == pytest.approx(parts.sum() / sums[:, 3].sum())
    assert 0 < found.low < found.value < found.high


def test_a_distance_that_may_be_chance_is_not_called_more_than_none():
    sums = gaps_of(stream(0, "test"), 30, [0.0] * 15)
    found = Sample(sums, over="documents").distance(slice(0, 15), 15)
    assert found.value > 0
    assert found.low == 0


def test_of_few_documents_a_distance_has_no_bounds():
    sums = gaps_of(stream(0, "test"), FEW - 1, [0.1])
    assert math.isnan(Sample(sums, over="documents").distance(slice(0, 1), 1).high)


def test_sums_without_a_document_are_refused():
    with pytest.raises(ShapeError):
        Sample(np.zeros((0, 2)), over="documents")


@pytest.mark.tier2
@pytest.mark.parametrize(("documents", "least"), [(5, 0.91), (12, 0.92), (40, 0.90)])
def test_the_interval_of_a_ratio_holds_the_truth_about_as_often_as_it_says(documents, least):
    truth, trials, hits = 3.0, 400, 0
    for trial in range(trials):
        rng = stream(trial, "coverage")
        weights = rng.uniform(500, 2_000, documents)
        values = (truth + rng.normal(0, 0.3, documents)) * weights
        found = sample_of(values, weights, resamples=400, seed=trial).figure(ratio)
        hits += found.low <= truth <= found.high
    # Binomial error of 400 trials: 0.011; percentile intervals are a little narrow at 40 documents.
    assert least < hits / trials < 0.985


@pytest.mark.tier2
@pytest.mark.parametrize("truth", [0.0, 0.005, 0.05])
def test_the_interval_of_a_distance_holds_the_truth_as_often_as_it_says(truth):
    signs = np.where(np.arange(15) % 2, 1.0, -1.0) / 15
    trials, hits = 200, 0
    for trial in range(trials):
        sums = gaps_of(stream(trial, "coverage"), 40, truth * signs)
        sample = Sample(sums, over="documents", resamples=400, seed=trial)
        found = sample.distance(slice(0, 15), 15)
        hits += found.low <= truth <= found.high
    # Binomial error of 200 trials: 0.015. Wider than it says where nothing is wrong.
    assert hits / trials > 0.91


@pytest.mark.parity
def test_the_quantiles_of_t_agree_with_scipy():
    scipy_stats = pytest.importorskip("scipy.stats")
    for freedom in range(1, 25):
        theirs = scipy_stats.t.ppf(0.975, freedom)
        assert student_t(0.95, freedom) == pytest.approx(theirs, rel=1e-12)
