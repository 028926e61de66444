"""Compiled sums have the bits of those that their references give: their order is what they are."""

import ml_dtypes
import numpy as np
import pytest

from entrenar_core.kernels import merging, summing

pytestmark = pytest.mark.tier2

TYPES = np.float32, ml_dtypes.bfloat16, np.float16


@pytest.mark.parametrize("n, k, columns", [(1, 1, 1), (2, 7001, 1), (3, 1000, 17), (999, 16, 32)])
def test_rows(n, k, columns):
    rng = np.random.default_rng(k)
    x = rng.standard_normal((n, k, columns)).astype(np.float32)
    sums = rng.standard_normal((n, columns)).astype(np.float32)
    before = sums.copy()
    np.testing.assert_array_equal(summing.add_rows(x, sums), summing.add_rows.reference(x, sums))
    np.testing.assert_array_equal(sums, before)


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("n, k", [(1, 1), (2, 3), (2, 70_001), (3000, 5)])
def test_squares(n, k, kind):
    rng = np.random.default_rng(k)
    x = rng.standard_normal((n, k, 8)).astype(kind)
    sums = np.square(rng.standard_normal((n, 8))).astype(np.float32)
    before = sums.copy()
    np.testing.assert_array_equal(
        summing.add_squares(x, sums), summing.add_squares.reference(x, sums)
    )
    np.testing.assert_array_equal(sums, before)


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("k", [1, 7, 1000])
def test_products(k, kind):
    rng = np.random.default_rng(k)
    x = rng.standard_normal((2, 2 * k, 512)).astype(kind)[:, :k]
    lengths = np.array([31, 0.7], np.float32)
    wanted = summing.unit_products.reference(x, lengths)
    np.testing.assert_array_equal(summing.unit_products(x, lengths), wanted)


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("n, size", [(1, 1), (2, 5000), (3, 70_001)])
def test_combined_vectors(n, size, kind):
    rng = np.random.default_rng(size)
    inputs = rng.standard_normal((n, size)).astype(kind)
    weights = rng.standard_normal(n).astype(np.float32)
    wanted = merging.combine.reference(inputs, weights)
    np.testing.assert_array_equal(merging.combine(inputs, weights), wanted)
