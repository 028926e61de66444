"""What `kernels.comparing.differences` makes of NaN, which no shared case can have."""

import ml_dtypes
import numpy as np
import pytest

from entrenar_core import kernels

TYPES = [np.float32, ml_dtypes.bfloat16, np.float16, np.float64]


@pytest.mark.tier2
@pytest.mark.parametrize("dtype", TYPES)
def test_nan_is_equal_to_nan_at_its_place_and_to_nothing_else(dtype):
    a = np.arange(1.0, 2001.0).astype(dtype)
    b = a.copy()
    a[[3, 1500]] = np.nan
    b[[3, 1700]] = np.nan
    b[1200] += dtype(8)
    sums, counts = kernels.comparing.differences(a, b)
    finite = np.isfinite(a.astype(float)) & np.isfinite(b.astype(float))
    wide_a, wide_b = a.astype(float)[finite], b.astype(float)[finite]
    exact = [wide_a @ wide_a, wide_b @ wide_b, wide_a @ wide_b, 64]
    assert sums == pytest.approx(exact, rel=1e-6)
    assert counts.tolist() == [3, 2, 1200]
