"""Weights held in 16 bits: bfloat16 and float16, widened to float32 where they are used."""

from entrenar_core.kernels.registry import array_module, kernel


def is_narrow(array):
    """Whether `array` holds bfloat16 or float16 numbers."""
    return array.dtype.name in ("bfloat16", "float16")


@kernel
def widen(x, *, out=None):
    """x (M, N) of bfloat16 or float16 as float32, in `out` if it is given. Exact."""
    xp = array_module(x)
    if out is None:
        return x.astype(xp.float32)
    xp.copyto(out, x)
    return out
