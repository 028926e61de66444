"""How many elements of a task vector are kept, and which, equal ones too."""

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from entrenar_core.merge.tensor import merge_arrays

BFLOAT16, FLOAT16, FLOAT32 = map(np.dtype, (ml_dtypes.bfloat16, np.float16, np.float32))
TYPES = st.sampled_from([BFLOAT16, FLOAT16, FLOAT32])
VALUES = st.lists(
    st.sampled_from([-3.0, -2.0, -1.0, -0.5, 0.25, 0.5, 1.0, 2.0, 3.0]), min_size=1, max_size=60
)
"""Few different ones, so that most are equal to others."""

few = settings(max_examples=60, deadline=None)


def kept(method, values, **changes):
    """Where the result has what the one model has, on a base of 0."""
    values = np.asarray(values)
    found = merge_arrays(
        method, [values], base=np.zeros_like(values), settings={"weight": 1.0} | changes
    )
    assert np.all((found == values) | (found == 0))
    return found != 0


def ordered(values):
    """Indices from the smallest magnitude to the largest, of equal ones the first first."""
    return np.argsort(np.abs(values.astype(np.float64)), kind="stable")


@few
@given(VALUES, TYPES, st.floats(0.01, 1))
def test_ties_keeps_so_many_of_the_largest_and_of_equal_ones_the_first(values, dtype, density):
    values = np.array(values).astype(dtype)
    count = max(1, int(density * values.size))
    wanted = np.argsort(-np.abs(values.astype(np.float64)), kind="stable")[:count]
    assert set(np.flatnonzero(kept("ties", values, density=density))) == set(wanted)


@few
@given(VALUES, TYPES, st.floats(0.01, 0.99), st.floats(0, 1))
def test_breadcrumbs_keeps_those_below_the_outliers(values, dtype, density, gamma):
    """Of the order from the smallest, the int(density·n) that come before the int(gamma·n) last,
    or the first ones if there are too few."""
    values = np.array(values).astype(dtype)
    n, count = values.size, int(density * values.size)
    first = max(0, n - count - int(gamma * n))
    wanted = ordered(values)[first : first + count]
    found = kept("breadcrumbs", values, density=density, gamma=gamma)
    assert set(np.flatnonzero(found)) == set(wanted)


@pytest.mark.parametrize("density", [0.001, 0.2, 0.999])
def test_the_count_is_exact_where_all_are_equal(density):
    values = np.ones(1000, np.float32)
    assert kept("ties", values, density=density).sum() == int(density * 1000)
    assert kept("breadcrumbs", values, density=density).sum() == int(density * 1000)


@pytest.mark.parametrize("dtype", [BFLOAT16, FLOAT32], ids=str)
def test_the_count_is_exact_over_several_blocks(dtype):
    """A tensor that is read in parts, with equal elements in each of them."""
    rng = np.random.default_rng(0)
    values = (np.round(rng.standard_normal((1500, 300)) * 20) / 20 + 0.01).astype(dtype)
    assert kept("ties", values, density=0.2).sum() == int(0.2 * values.size)
    found = kept("breadcrumbs", values, density=0.6, gamma=0.1)
    assert found.sum() == int(0.6 * values.size)
    outliers = ordered(values.reshape(-1))[values.size - int(0.1 * values.size) :]
    assert not found.reshape(-1)[outliers].any()


def test_ties_keeps_one_of_a_tensor_too_small_for_its_density():
    assert kept("ties", np.float32([1, -3, 2]), density=0.1).tolist() == [False, True, False]


def test_breadcrumbs_keeps_none_of_a_tensor_too_small_for_its_density():
    assert not kept("breadcrumbs", np.float32([1, -3, 2]), density=0.1).any()


def test_breadcrumbs_without_outliers_keeps_the_largest():
    found = kept("breadcrumbs", np.float32([1, -3, 2, 0.5]), density=0.5, gamma=0.0)
    assert found.tolist() == [False, True, True, False]


@few
@given(VALUES, st.floats(0.05, 0.95))
def test_each_model_is_trimmed_by_itself(values, density):
    """The other one does not change what is kept of the first: it changes elements of its own."""
    first = np.array([*values, *([0.0] * len(values))], np.float32)
    second = np.roll(first, len(values))
    found = merge_arrays(
        "breadcrumbs",
        [first, second],
        base=np.zeros_like(first),
        settings={"weight": 1.0, "density": density, "gamma": 0.0},
    )
    alone = merge_arrays(
        "breadcrumbs",
        [first],
        base=np.zeros_like(first),
        settings={"weight": 1.0, "density": density, "gamma": 0.0},
    )
    assert np.array_equal(found[: len(values)], alone[: len(values)])


def test_of_equal_ones_in_two_blocks_the_first_is_kept():
    values = np.zeros((2, 2**18), np.float32)
    values[0, 5] = values[1, 7] = 1
    assert np.array_equal(np.argwhere(kept("ties", values, density=1 / values.size)), [[0, 5]])
