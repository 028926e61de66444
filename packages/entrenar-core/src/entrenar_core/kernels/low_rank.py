"""A product of small factors added to weights in 16 bits."""

from entrenar_core.kernels.narrow import rounded, widen
from entrenar_core.kernels.registry import kernel


@kernel
def add_low_rank(weight, left, right, *, out):
    """out (M, N) = weight + left (M, r) @ right (r, N), added in float32 and rounded once.

    `weight` is of bfloat16 or float16, and `out` of any type that `rounded` takes; it may be
    `weight` itself.
    """
    wide = widen(weight)
    wide += (left @ right).astype(wide.dtype)
    return rounded(wide, out=out)
