"""Dropout: what is kept, how much of it, and that the gradient drops the same."""

import numpy as np
import pytest

from entrenar_common.errors import ConfigError
from entrenar_core import kernels
from entrenar_core.autograd import Tensor, ops
from entrenar_core.kernels.dropout import kept

N = 200_000


def mask(key, p, n=N):
    return kernels.dropout(np.ones(n, np.float32), p=p, key=key) != 0


def splitmix64(seed, count):
    """The generator as its authors write it, in Python integers."""
    full, state = 2**64 - 1, seed
    for _ in range(count):
        state = (state + 0x9E3779B97F4A7C15) & full
        z = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & full
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & full
        yield z ^ (z >> 31)


@pytest.mark.parametrize("key", [0, 12345, 2**64 - 1])
@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_an_element_is_kept_where_its_counter_reaches_the_threshold(key, p, dtype):
    x = np.linspace(1, 2, 100).astype(dtype)
    wanted = np.array([z >= int(p * 2**64) for z in splitmix64(key, 100)])
    y = kernels.dropout(x, p=p, key=key)
    assert np.array_equal(y != 0, wanted)
    assert np.array_equal(y[wanted], x[wanted] * y.dtype.type(1 / (1 - p)))


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_the_share_that_is_kept_is_within_four_standard_errors(p):
    share = mask(7, p).mean()
    assert abs(share - (1 - p)) <= 4 * np.sqrt(p * (1 - p) / N)


@pytest.mark.parametrize("lag", [1, 2, 16, 64, 1000])
def test_neighbours_are_independent(lag):
    centred = mask(7, 0.5) - 0.5
    correlation = 4 * (centred[lag:] * centred[:-lag]).mean()
    assert abs(correlation) <= 4 / np.sqrt(N - lag)


@pytest.mark.parametrize("other", [8, 7 + 2**32, 2**63])
def test_keys_are_independent(other):
    agreement = (mask(7, 0.5) == mask(other, 0.5)).mean()
    assert abs(agreement - 0.5) <= 2 / np.sqrt(N)


@pytest.mark.parametrize("size", [1, 4096, 16_384, 16_385, 50_001])
@pytest.mark.parametrize("p", [0.3, 0.75])
def test_the_compiled_kernel_gives_the_bits_of_the_reference(size, p):
    x = np.random.default_rng(0).standard_normal(size).astype(np.float32)
    wanted = kernels.dropout.reference(x, p=p, key=99)
    assert np.array_equal(kernels.dropout(x, p=p, key=99), wanted)


def test_the_gradient_drops_what_the_value_drops():
    x = Tensor(np.ones((50, 7)), requires_grad=True)
    y = ops.dropout(x, p=0.4, key=3)
    y.backward(np.full((50, 7), 2.0))
    assert np.array_equal(x.grad, 2 * y.data)
    assert np.array_equal(y.data != 0, kept(np, 3, 350, 0.4).reshape(50, 7))


def test_where_nothing_is_dropped_nothing_is_copied():
    x = Tensor(np.ones(3))
    assert ops.dropout(x, p=0.0, key=3).data is x.data


@pytest.mark.parametrize("p", [-0.1, 1.0, 1.5, float("nan")])
def test_a_share_that_is_none_is_an_error_that_shows_it(p):
    with pytest.raises(ConfigError, match=str(p)):
        ops.dropout(Tensor(np.ones(3)), p=p, key=0)
