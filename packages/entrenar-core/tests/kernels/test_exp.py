"""The polynomial exponential that the compiled kernels use."""

import numba
import numpy as np
import pytest

from entrenar_core.kernels.cpu.compile import exp, jit

# The docstring promises 2e-7: three roundings of float32.
BOUND = 2e-7

pytestmark = pytest.mark.tier2


@pytest.fixture(scope="module")
def exp_of():
    @numba.njit(fastmath={"nsz", "arcp", "contract", "afn", "reassoc"}, error_model="numpy")
    def loop(x, y):
        for i in range(x.size):
            y[i] = exp(x[i])

    def call(values):
        x = np.asarray(values, np.float32)
        y = np.empty_like(x)
        loop(x, y)
        return y

    return call


def test_the_relative_error_is_below_its_promise_over_the_whole_range(exp_of):
    x = np.linspace(-87, 88, 2_000_003).astype(np.float32)
    exact = np.exp(x.astype(np.float64))
    assert np.max(np.abs(exp_of(x) - exact) / exact) < BOUND


def test_the_relative_error_is_below_its_promise_near_zero(exp_of):
    small = np.geomspace(1e-30, 1, 100_001).astype(np.float32)
    x = np.concatenate([small, -small, [0.0]]).astype(np.float32)
    exact = np.exp(x.astype(np.float64))
    assert np.max(np.abs(exp_of(x) - exact) / exact) < BOUND


def test_zero_gives_exactly_one(exp_of):
    assert exp_of([0.0, -0.0]).tolist() == [1.0, 1.0]


def test_far_below_the_range_it_is_nothing_beside_one(exp_of):
    y = exp_of([-88.0, -1e4, -1e30, -np.inf])
    assert np.all((y >= 0) & (y < 2e-38))


def test_nan_stays_nan(exp_of):
    assert np.isnan(exp_of([np.nan, -np.nan])).all()


def test_kernels_are_compiled_without_assuming_that_nan_is_absent():
    @jit
    def total(x):
        s = np.float32(0)
        for i in range(x.size):
            s += x[i]
        return s

    flags = total.targetoptions["fastmath"]
    assert not {"nnan", "ninf", "fast"} & set(flags)
