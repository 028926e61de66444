"""Operations where they have no derivative, and the subgradients that PyTorch documents for them.

`gradients` is what a gradient of ones pulls back to each input. `test_op_gradients.py` compares
ours with it, and `test_op_parity.py` PyTorch's.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from entrenar_core.autograd import ops

INF, NAN = float("inf"), float("nan")


@dataclass(frozen=True)
class Kink:
    name: str
    call: Callable[..., Any]
    torch: Callable[..., Any]
    inputs: tuple[Any, ...]
    gradients: tuple[Any, ...]


KINKS = [
    Kink("abs at 0", ops.abs, lambda t, x: x.abs(), ([0.0, -0.0, -2.0],), ([0.0, 0.0, -1.0],)),
    Kink("sqrt at 0", ops.sqrt, lambda t, x: x.sqrt(), ([0.0, 4.0],), ([INF, 0.25],)),
    Kink("log at 0", ops.log, lambda t, x: x.log(), ([0.0, 4.0],), ([INF, 0.25],)),
    Kink(
        "clip at its bounds",
        lambda x: ops.clip(x, 1.0, 2.0),
        lambda t, x: x.clamp(1.0, 2.0),
        ([0.0, 1.0, 1.5, 2.0, 3.0, NAN],),
        ([0.0, 1.0, 1.0, 1.0, 0.0, 0.0],),
    ),
    Kink(
        "clip at a lower bound",
        lambda x: ops.clip(x, min=1.0),
        lambda t, x: x.clamp(min=1.0),
        ([0.0, 1.0, 2.0, NAN],),
        ([0.0, 1.0, 1.0, 0.0],),
    ),
    Kink(
        "clip at an upper bound",
        lambda x: ops.clip(x, max=1.0),
        lambda t, x: x.clamp(max=1.0),
        ([0.0, 1.0, 2.0, NAN],),
        ([1.0, 1.0, 0.0, 0.0],),
    ),
    Kink(
        "clip with bounds that meet or cross",
        ops.clip,
        lambda t, x, low, high: t.clamp(x, low, high),
        ([0.0, 1.0, 2.0, 3.0, 1.5], [1.0, 1.0, 3.0, 3.0, 1.0], [2.0, 1.0, 2.0, 2.0, 1.0]),
        ([0.0, 1.0, 0.0, 0.0, 0.0], [1.0, 0.0, 0.0, 0.0, 0.0], [0.0, 0.0, 1.0, 1.0, 1.0]),
    ),
    Kink(
        "clip of its bounds themselves",
        ops.clip,
        lambda t, x, low, high: t.clamp(x, low, high),
        ([1.0, 2.0], [1.0, 1.0], [2.0, 2.0]),
        ([1.0, 1.0], [0.0, 0.0], [0.0, 0.0]),
    ),
    Kink(
        "clip below bounds that are equal",
        ops.clip,
        lambda t, x, low, high: t.clamp(x, low, high),
        ([0.0], [1.0], [1.0]),
        ([0.0], [0.0], [0.0]),
    ),
    Kink(
        "maximum of equal ones",
        ops.maximum,
        lambda t, x, y: t.maximum(x, y),
        ([0.0, 1.0, 3.0, NAN], [0.0, 2.0, 1.0, 1.0]),
        ([0.5, 0.0, 1.0, 1.0], [0.5, 1.0, 0.0, 1.0]),
    ),
    Kink(
        "minimum of equal ones",
        ops.minimum,
        lambda t, x, y: t.minimum(x, y),
        ([0.0, 1.0, 3.0, 1.0], [0.0, 2.0, 1.0, NAN]),
        ([0.5, 1.0, 0.0, 1.0], [0.5, 0.0, 1.0, 1.0]),
    ),
    Kink(
        "pow of and by 0",
        ops.pow,
        lambda t, x, y: x**y,
        ([0.0, 0.0, 0.0, 2.0, 0.0], [0.0, 1.0, 2.0, 0.0, -1.0]),
        ([0.0, 1.0, 0.0, 0.0, -INF], [0.0, 0.0, 0.0, 0.6931472, -INF]),
    ),
    Kink(
        "pow of a negative number",
        ops.pow,
        lambda t, x, y: x**y,
        ([-1.0, -2.0], [2.0, 3.0]),
        ([-2.0, 12.0], [NAN, NAN]),
    ),
    Kink(
        "pow of 0 by the number 0",
        lambda x: ops.pow(x, 0),
        lambda t, x: x**0,
        ([0.0, 2.0],),
        ([0.0, 0.0],),
    ),
    Kink(
        "pow of the number 0",
        lambda x: ops.pow(0.0, x),
        lambda t, x: t.pow(0.0, x),
        ([0.0, 2.0],),
        ([0.0, 0.0],),
    ),
    Kink(
        "max of equal ones",
        lambda x: ops.max(x, axis=1),
        lambda t, x: x.amax(1),
        ([[1.0, 1.0, 0.0], [2.0, 2.0, 2.0], [0.0, 5.0, 1.0]],),
        ([[0.5, 0.5, 0.0], [1 / 3] * 3, [0.0, 1.0, 0.0]],),
    ),
    Kink(
        "min of equal ones over two axes",
        lambda x: ops.min(x, axis=(0, 1)),
        lambda t, x: x.amin((0, 1)),
        ([[1.0, 1.0, 3.0], [2.0, 1.0, 1.0]],),
        ([[0.25, 0.25, 0.0], [0.0, 0.25, 0.25]],),
    ),
    Kink("max with a NaN", ops.max, lambda t, x: x.amax(), ([1.0, NAN],), ([NAN, NAN],)),
    Kink(
        "std of equal ones", ops.std, lambda t, x: x.std(correction=0), ([3.0, 3.0],), ([0.0] * 2,)
    ),
    Kink(
        "logsumexp of −∞ beside a number",
        lambda x: ops.logsumexp(x, axis=0),
        lambda t, x: x.logsumexp(0),
        ([0.0, -INF],),
        ([1.0, 0.0],),
    ),
    Kink(
        "logsumexp of −∞ alone",
        lambda x: ops.logsumexp(x, axis=0),
        lambda t, x: x.logsumexp(0),
        ([-INF, -INF],),
        ([NAN, NAN],),
    ),
    Kink(
        "logsumexp of ∞",
        lambda x: ops.logsumexp(x, axis=0),
        lambda t, x: x.logsumexp(0),
        ([INF, 0.0],),
        ([NAN, 0.0],),
    ),
]
