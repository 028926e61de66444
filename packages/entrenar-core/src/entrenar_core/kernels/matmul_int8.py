"""Products with matrices of integers of 8 bits, of numbers that are rounded to such integers."""

import numpy as np

from entrenar_core.kernels.affine import inverse
from entrenar_core.kernels.int8_panels import Int8Panels, int8_panels
from entrenar_core.kernels.matmul import matmul
from entrenar_core.kernels.registry import array_module, kernel

HIGHEST = 127
"""The largest integer that a number is rounded to."""

LONGEST = (2**31 - 1) // (HIGHEST * 128)
"""Integers of a block whose sum of products always is one of 32 bits."""

AT_A_TIME = 1 << 22
"""Integers of a matrix that are laid out as rows at a time."""


def quantized_rows(x):
    """x (M, K) as integers from −127 to 127 in float32 (M, K), and the scale of each row (M,).

    scale = max|x|/127 and q = x/scale, rounded to nearest and halves to even. The scale of a row
    with NaN or infinity is NaN, and its integers are 0. 1/scale is finite, so that a row of numbers
    below 4e-37 is too small afterwards.
    """
    xp = array_module(x)
    x = xp.ascontiguousarray(x, "float32")
    peak = xp.abs(x).max(axis=1, initial=0)  # NaN where there is one
    finite = xp.isfinite(peak)
    scale = xp.where(finite, peak / np.float32(HIGHEST), np.float32(np.nan))
    with np.errstate(invalid="ignore"):
        q = xp.where(finite[:, None], xp.rint(x * inverse(scale)[:, None]), np.float32(0))
    return q, scale


@kernel
def matmul_int8(a, b, *, trans_a=False, trans_b=False, out=None, add=False):
    """`matmul`, in integers where b is held in `Int8Panels` and op(b) is their transposed matrix.

    a (M, K) is then rounded to integers too, row by row (`quantized_rows`), and

        y[m, n] = s[m] · Σ over blocks d[n, block] · Σ over the block q_a[m, k] · q_b[n, k]

    with the inner sums exact, and the outer ones in the float type of a, over ascending blocks. A
    row of a with NaN or infinity gives NaN. In all other cases it is `matmul`. Raises ValueError
    for blocks so long that their sums may be no number of 32 bits.
    """
    panels = None if trans_a else int8_panels(b, trans_b=trans_b)
    if panels is None:
        return matmul(a, b, trans_a=trans_a, trans_b=trans_b, out=out, add=add)
    check_operands(a, panels)
    return _by_integers(a, panels, out, add)


def check_operands(a, panels: Int8Panels) -> None:
    """Raise ValueError where a (M, K) and panels (N, K) have no product here."""
    if a.shape[1] != panels.shape[1]:
        raise ValueError(
            f"the products are over {a.shape[1]} numbers of a and {panels.shape[1]} of b"
        )
    if panels.length > LONGEST:
        raise ValueError(
            f"sums over {panels.length} products of integers; {LONGEST} fit in 32 bits"
        )


def _by_integers(a, panels: Int8Panels, out, add):
    q, scale = quantized_rows(a)
    count, width = panels.shape
    found = np.zeros((len(a), count), a.dtype)
    step = max(1, AT_A_TIME // max(width, 1))
    for low in range(0, count, step):
        high = min(low + step, count)
        integers, scales = panels.integers(low, high), panels.scales_of(low, high)
        for block in range(panels.blocks):
            at = slice(block * panels.length, (block + 1) * panels.length)
            sums = _exact(q[:, at], integers[:, at]).astype(a.dtype)
            found[:, low:high] += scales[:, block].astype(a.dtype) * sums
    found *= scale[:, None].astype(a.dtype)
    if out is None:
        return found
    out[...] = out + found if add else found
    return out


def _exact(q, integers):
    """q (M, L) times the transposed of integers (N, L), to the last digit: in float32 as long as
    all integers up to the largest possible sum have a number there."""
    kind = np.float32 if q.shape[1] * HIGHEST * 128 < 2**24 else np.float64
    return q.astype(kind, copy=False) @ integers.T.astype(kind)
