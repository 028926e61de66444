"""The exponential, logarithm, error function and maximum that the compiled kernels use."""

import math

import numba
import numpy as np
import pytest

from entrenar_core.kernels.cpu.compile import jit
from entrenar_core.kernels.cpu.divergences import log1p
from entrenar_core.kernels.cpu.elementary import erf, exp, peak_of, sigmoid

# The docstrings promise these: a few roundings of float32.
BOUND = 2e-7
ERF_BOUND = 5e-7
SIGMOID_BOUND = 4e-7
LOG1P_BOUND = 3e-7

pytestmark = pytest.mark.tier2


def elementwise(function):
    """`function` in a loop, compiled as the kernels are."""

    @numba.njit(fastmath={"nsz", "arcp", "contract", "afn", "reassoc"}, error_model="numpy")
    def loop(x, y):
        for i in range(x.size):
            y[i] = function(x[i])

    def call(values):
        x = np.asarray(values, np.float32)
        y = np.empty_like(x)
        loop(x, y)
        return y

    return call


@numba.njit
def peak(row):
    return peak_of(row)


@pytest.fixture(scope="module")
def exp_of():
    return elementwise(exp)


@pytest.fixture(scope="module")
def erf_of():
    return elementwise(erf)


@pytest.fixture(scope="module")
def sigmoid_of():
    return elementwise(sigmoid)


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


def exact_erf(x):
    return np.vectorize(math.erf)(x.astype(np.float64))


def test_the_error_function_is_as_exact_as_it_promises_over_the_whole_range(erf_of):
    x = np.linspace(-6, 6, 600_002).astype(np.float32)
    exact = exact_erf(x)
    assert np.max(np.abs(erf_of(x) - exact) / np.abs(exact)) < ERF_BOUND


def test_the_error_function_is_as_exact_as_it_promises_near_zero(erf_of):
    small = np.geomspace(1e-30, 1, 100_001).astype(np.float32)
    x = np.concatenate([small, -small])
    exact = exact_erf(x)
    assert np.max(np.abs(erf_of(x) - exact) / np.abs(exact)) < ERF_BOUND


def test_the_error_function_of_zero_infinity_and_nan(erf_of):
    assert erf_of([0.0, -0.0]).tolist() == [0.0, 0.0]
    assert np.abs(erf_of([4.0, 1e30, np.inf]) - 1).max() < ERF_BOUND
    assert np.abs(erf_of([-4.0, -1e30, -np.inf]) + 1).max() < ERF_BOUND
    assert np.isnan(erf_of([np.nan, -np.nan])).all()


def test_the_sigmoid_is_as_exact_as_it_promises(sigmoid_of):
    x = np.linspace(-80, 100, 600_001).astype(np.float32)
    exact = 1 / (1 + np.exp(-x.astype(np.float64)))
    assert np.max(np.abs(sigmoid_of(x) - exact) / exact) < SIGMOID_BOUND


def test_the_sigmoid_far_out_and_of_nan(sigmoid_of):
    assert np.all(sigmoid_of([-81.0, -1e30, -np.inf]) < 2e-35)
    assert sigmoid_of([0.0, 1e30, np.inf]).tolist() == [0.5, 1.0, 1.0]
    assert np.isnan(sigmoid_of([np.nan, -np.nan])).all()


@pytest.mark.parametrize(
    "row",
    [
        [-3.0, -1.0, -2.0],
        [0.0, 5.5, -7.0],
        [-np.inf, -1e30],
        [-np.inf, -np.inf],
        [np.inf, 3.0],
        [1e-45, -1e-45],
        [-1e-45, -2e-45],
        [],
    ],
)
def test_the_peak_is_the_maximum(row):
    wanted = np.max(np.array(row, np.float32), initial=-np.inf)
    assert peak(np.array(row, np.float32)) == wanted


@pytest.mark.parametrize("size", [1, 7, 16, 33, 1000])
@pytest.mark.parametrize("sign", [-1, 0, 1])
def test_the_peak_is_found_wherever_it_is(size, sign):
    rng = np.random.default_rng(size)
    for place in range(0, size, max(1, size // 20)):
        row = rng.uniform(-1, 1, size).astype(np.float32) + np.float32(2 * sign)
        row[place] = 4 * sign + 2
        assert peak(row) == row.max()


def test_kernels_are_compiled_without_assuming_that_nan_is_absent():
    @jit
    def total(x):
        s = np.float32(0)
        for i in range(x.size):
            s += x[i]
        return s

    flags = total.targetoptions["fastmath"]
    assert not {"nnan", "ninf", "fast"} & set(flags)


@pytest.mark.parametrize("sign", [-1, 1])
def test_the_logarithm_of_one_and_a_bit_is_within_its_bound(sign):
    sizes = np.geomspace(1e-30, 1e13 if sign > 0 else 1 - 1e-6, 200_000)
    x = (sign * sizes).astype(np.float32)
    wanted = np.log1p(x.astype(np.float64))
    error = np.abs(elementwise(log1p)(x) - wanted) / np.abs(wanted)
    assert error.max() <= LOG1P_BOUND


def test_the_logarithm_of_one_is_zero():
    assert elementwise(log1p)([0.0])[0] == 0.0
