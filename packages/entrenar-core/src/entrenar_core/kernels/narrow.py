"""Weights held in 16 bits: bfloat16 and float16, widened to float32 where they are used, and made
from it."""

from functools import cache

import numpy as np

from entrenar_core.kernels.registry import array_module, kernel

NARROW = ("bfloat16", "float16")


@cache
def narrow_type(name):
    """NumPy's type of that name, one of NARROW."""
    import ml_dtypes  # what every program would wait for, and few need

    return np.dtype(getattr(ml_dtypes, name, name))


def is_narrow(array):
    """Whether `array` holds bfloat16 or float16 numbers."""
    # the name of a dtype takes microseconds to make
    return array.dtype.itemsize == 2 and array.dtype.name in NARROW


@kernel
def widen(x, *, out=None):
    """x (M, N) of bfloat16 or float16 as float32, in `out` if it is given. Exact."""
    xp = array_module(x)
    if out is None:
        return x.astype(xp.float32)
    xp.copyto(out, x)
    return out


@kernel
def rounded(x, *, out):
    """x (M, N) of float32 in `out`, whose type is bfloat16 or float16 (to nearest, ties to even) or
    float32. What is too large becomes infinite."""
    xp = array_module(x)
    with xp.errstate(over="ignore"):
        xp.copyto(out, x, casting="same_kind")
    return out
