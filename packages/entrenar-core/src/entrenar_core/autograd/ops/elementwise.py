"""Arithmetic and functions with NumPy's broadcasting; the tape sums gradients back to the inputs'
shapes. At kinks the gradients are PyTorch's subgradients.
"""

import numpy as np

from entrenar_core.autograd.op import op
from entrenar_core.autograd.ops.operands import array, floating, operands


@op
def add(x, y):
    """x + y, broadcast."""
    x, y = operands(x, y)
    return x + y, (lambda g: g, lambda g: g)


@op
def sub(x, y):
    """x − y, broadcast."""
    x, y = operands(x, y)
    return x - y, (lambda g: g, lambda g: -g)


@op
def mul(x, y):
    """x · y, broadcast."""
    x, y = operands(x, y)
    return x * y, (lambda g: g * y, lambda g: g * x)


@op
def div(x, y):
    """x / y, broadcast. Integers are divided in float32."""
    x, y = operands(x, y, floating=True)
    z = x / y
    return z, (lambda g: g / y, lambda g: -g * z / y)


@op
def neg(x):
    """−x."""
    return -array(x), (lambda g: -g,)


@op
def pow(x, y):  # noqa: A001
    """xʸ, broadcast; x or y may be a number.

    d/dx = y·xʸ⁻¹, and 0 where y = 0, also at x = 0. d/dy = xʸ·ln x, and 0 where x = 0 and y ≥ 0;
    NaN where x < 0.
    """
    x, y = operands(x, y)
    z = x**y

    def pull_x(g):
        if not isinstance(y, np.ndarray):  # NumPy has fast ways for numbers such as 2 and 0.5
            return np.zeros_like(z) if y == 0 else g * (y * x ** (y - 1))
        flat = y == 0
        return g * np.where(flat, 0, y * x ** np.where(flat, 1, y - 1))

    def pull_y(g):
        base = np.asarray(x, z.dtype)
        flat = (base == 0) & (y >= 0)
        return g * np.where(flat, 0, z * np.log(np.where(flat, 1, base)))

    return z, (pull_x, pull_y)


@op
def exp(x):
    """eˣ."""
    y = np.exp(floating(x))
    return y, (lambda g: g * y,)


@op
def log(x):
    """The natural logarithm of x."""
    x = floating(x)
    return np.log(x), (lambda g: g / x,)


@op
def sqrt(x):
    """√x. The gradient at 0 is infinite."""
    y = np.sqrt(floating(x))
    return y, (lambda g: g / (2 * y),)


@op
def abs(x):  # noqa: A001
    """|x|. The gradient at 0 is 0."""
    x = array(x)
    return np.abs(x), (lambda g: g * np.sign(x),)


@op
def clip(x, min=None, max=None):  # noqa: A002
    """x between `min` and `max` (numbers, arrays or None), which is `max` where they cross.

    The gradient goes to x where min ≤ x ≤ max, and else to the bound that is taken.
    """
    if min is None and max is None:
        raise ValueError("give min, max or both")
    # a missing bound is x itself, beyond which x never is
    x, low, high = operands(x, x if min is None else min, x if max is None else max)
    both = min is not None and max is not None
    y = x if min is None else np.maximum(x, low)
    y = y if max is None else np.minimum(y, high)

    def pull_low(g):
        return np.where((x < low) & (low < high if both else True), g, 0)

    def pull_high(g):
        return np.where((x > high) | (high < low if both else False), g, 0)

    return y, (lambda g: np.where((x >= low) & (x <= high), g, 0), pull_low, pull_high)


@op
def maximum(x, y):
    """The larger of x and y, broadcast. Where they are equal each gets half of the gradient."""
    x, y = operands(x, y)
    return np.maximum(x, y), _to_the_winner(x, y, x < y, x > y)


@op
def minimum(x, y):
    """The smaller of x and y, broadcast. Where they are equal each gets half of the gradient."""
    x, y = operands(x, y)
    return np.minimum(x, y), _to_the_winner(x, y, x > y, x < y)


@op
def where(condition, x, y):
    """x where `condition` (booleans) is true and y elsewhere, broadcast."""
    condition = np.asarray(condition)
    if condition.dtype != bool:
        raise ValueError(f"the condition is {condition.dtype}; compare something to get booleans")
    x, y = operands(x, y)
    to_x, to_y = (lambda g: np.where(condition, g, 0)), (lambda g: np.where(condition, 0, g))
    return np.where(condition, x, y), (None, to_x, to_y)


@op
def astype(x, dtype):
    """x in the float type `dtype`: float32 or float64. The gradient has x's own type."""
    x = array(x)
    before, name = x.dtype, getattr(dtype, "name", None) or getattr(dtype, "__name__", dtype)
    if name not in ("float32", "float64"):
        raise ValueError(f"{name} carries no gradient; convert the array: x.data.astype(...)")
    return x.astype(name, copy=False), (lambda g: g.astype(before, copy=False), None)


def _to_the_winner(x, y, x_loses, y_loses):
    """The vjps of a choice between x and y. Where one is NaN neither loses: both get all of g."""

    def pull(loses):
        return lambda g: np.where(x == y, g / 2, np.where(loses, 0, g))

    return pull(x_loses), pull(y_loses)
