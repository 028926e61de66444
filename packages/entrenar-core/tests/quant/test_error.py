"""Measures of the error, in closed forms."""

import math

import numpy as np
import pytest

from entrenar_common.errors import ShapeError
from entrenar_core.quant import error_of, quant_error


def test_a_tenth_of_the_norm_is_20_decibels():
    x = np.random.default_rng(0).standard_normal((5, 7))
    found = quant_error(x, x * 0.9)
    assert found.sqnr_db == pytest.approx(20)
    assert found.relative == pytest.approx(0.1)
    assert found.max == pytest.approx(0.1 * np.abs(x).max())
    assert found.mean == pytest.approx(0.1 * np.abs(x).mean())


def test_no_error_is_infinitely_many_decibels():
    assert quant_error(np.ones(3), np.ones(3)).sqnr_db == math.inf
    assert quant_error(np.zeros(3), np.zeros(3)).sqnr_db == math.inf


def test_an_error_where_there_was_nothing_is_infinite():
    found = quant_error(np.zeros(3), np.ones(3))
    assert (found.sqnr_db, found.relative) == (-math.inf, math.inf)


@pytest.mark.parametrize("bits", [4, 6, 8])
def test_uniform_numbers_gain_six_decibels_with_each_bit(bits):
    # noise Δ²/12 with Δ = 2/(2^b − 2), signal 1/3
    x = np.random.default_rng(0).uniform(-1, 1, 100_000).astype(np.float32)
    step = 2 / (2**bits - 2)
    wanted = 10 * math.log10((1 / 3) / (step**2 / 12))
    assert error_of(x, f"int{bits}").sqnr_db == pytest.approx(wanted, abs=0.1)


def test_other_shapes_are_refused():
    with pytest.raises(ShapeError, match=r"shape \(2,\) beside one of shape \(3,\)"):
        quant_error(np.zeros(2), np.zeros(3))
