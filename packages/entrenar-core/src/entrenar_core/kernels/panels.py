"""Products with matrices of fewer bits than float32, widened a panel of rows at a time."""

from collections.abc import Callable
from typing import Any

from entrenar_core.kernels.held import Held
from entrenar_core.kernels.narrow import is_narrow, widen
from entrenar_core.kernels.registry import array_module

PANEL = 1 << 20
"""Elements that are widened at a time: 4 MiB of float32, which stay in the cache until they are
used."""

ROUND = 48
"""Panels are a multiple of this many rows, so that every number of rows and columns that BLAS takes
at a time divides them."""


def comes_in_panels(b: Any) -> bool:
    """Whether `by_panels` is for this matrix."""
    return isinstance(b, Held) or is_narrow(b)


def by_panels(
    product: Callable[..., Any],
    a: Any,
    b: Any,
    *,
    trans_a: bool,
    trans_b: bool,
    out: Any,
    add: bool,
) -> Any:
    """`matmul` for a b that is held or narrow, by a `product` for float32.

    A panel of rows of b gives columns of the result where b is transposed; else it takes columns of
    op(a), and their products add up.
    """
    xp = array_module(a)
    if isinstance(b, Held) and b.transposed:
        b, trans_b = b.T, not trans_b
    count, width = b.shape
    if out is None:
        m = a.shape[1] if trans_a else a.shape[0]
        out = xp.empty((m, count if trans_b else width), a.dtype)
    if not (count or trans_b or add):
        out[...] = 0
    step = max(ROUND, PANEL // max(width, 1) // ROUND * ROUND)
    scratch = xp.empty(min(step, count) * width, "float32")
    for low in range(0, count, step):
        high = min(count, low + step)
        panel = scratch[: (high - low) * width].reshape(high - low, width)
        if isinstance(b, Held):
            b.kept.rows(low, high, panel)
        else:
            widen(b[low:high], out=panel)
        if trans_b:
            product(a, panel, trans_a=trans_a, trans_b=True, out=out[:, low:high], add=add)
        else:
            part = a[low:high] if trans_a else a[:, low:high]
            product(part, panel, trans_a=trans_a, out=out, add=add or low > 0)
    return out
