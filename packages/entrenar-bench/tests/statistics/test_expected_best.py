"""The expected best of so many points is the mean of the best over every choice of them."""

import itertools
import statistics

import numpy as np
import pytest

from entrenar_bench.statistics import expected_best

SAMPLES = [[2.5], [3.0, 1.0], [0.4, 0.4, 0.1, 0.9], list(np.random.default_rng(5).normal(size=8))]


@pytest.mark.parametrize("values", SAMPLES, ids=len)
@pytest.mark.parametrize(("goal", "best"), [("lower", min), ("higher", max)])
def test_it_is_the_mean_over_all_choices(values, goal, best):
    expected = [
        statistics.fmean(map(best, itertools.combinations(values, count)))
        for count in range(1, len(values) + 1)
    ]
    assert expected_best(values, goal=goal).tolist() == pytest.approx(expected)


def test_of_many_points_the_ends_are_the_mean_and_the_best():
    values = np.random.default_rng(6).normal(size=150)
    found = expected_best(values, goal="higher")
    assert found[0] == pytest.approx(values.mean())
    assert found[-1] == values.max()
    assert (np.diff(found) >= 0).all()


def test_a_point_that_is_not_finite_leaves_nothing_to_say():
    assert np.isnan(expected_best([1.0, float("inf"), 2.0])).all()


def test_no_points_have_no_best():
    assert expected_best([]).shape == (0,)
