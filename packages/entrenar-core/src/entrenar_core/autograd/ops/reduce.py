"""Sums, means and the like over axes: `axis` is a number, a tuple of them, or None for all."""

import math

import numpy as np

from entrenar_core.autograd.op import op
from entrenar_core.autograd.ops.operands import array, floating


@op
def sum(x, *, axis=None, keepdims=False):  # noqa: A001
    """Σ x over `axis`; 0 over no elements."""
    x = array(x)
    return np.sum(x, axis=axis, keepdims=keepdims), (_spread(x, axis, keepdims),)


@op
def mean(x, *, axis=None, keepdims=False):
    """The mean of x over `axis`; NaN over no elements."""
    x = floating(x)
    y = np.mean(x, axis=axis, keepdims=keepdims)
    spread, count = _spread(x, axis, keepdims), _count(x, axis)
    return y, (lambda g: spread(g) / x.dtype.type(count),)


@op
def var(x, *, axis=None, correction=0, keepdims=False):
    """The variance Σ (x − mean)² / (n − `correction`) over the n elements of `axis`.

    `correction` is 0 by default, as in NumPy; PyTorch's default is 1.
    """
    x = floating(x)
    y, deviation, count = _variance(x, axis, correction)
    spread = _spread(x, axis, keepdims)
    return _dropped(y, axis, keepdims), (lambda g: spread(g) * (2 / count) * deviation,)


@op
def std(x, *, axis=None, correction=0, keepdims=False):
    """The standard deviation, √var. Where it is 0 the gradient is 0."""
    x = floating(x)
    y, deviation, count = _variance(x, axis, correction)
    y = np.sqrt(y)
    spread = _spread(x, axis, keepdims)

    def pull(g):
        return spread(g) * deviation / (count * np.where(y == 0, 1, y))

    return _dropped(y, axis, keepdims), (pull,)


@op
def max(x, *, axis=None, keepdims=False):  # noqa: A001
    """The largest x over `axis`. Equal ones share the gradient evenly."""
    x = array(x)
    y = np.max(x, axis=axis, keepdims=True)
    return _dropped(y, axis, keepdims), (_to_equals(x, y, axis, keepdims),)


@op
def min(x, *, axis=None, keepdims=False):  # noqa: A001
    """The smallest x over `axis`. Equal ones share the gradient evenly."""
    x = array(x)
    y = np.min(x, axis=axis, keepdims=True)
    return _dropped(y, axis, keepdims), (_to_equals(x, y, axis, keepdims),)


@op
def logsumexp(x, *, axis=None, keepdims=False):
    """ln Σ eˣ over `axis`, without overflow; −∞ over no elements. The gradient is softmax(x)."""
    x = floating(x)
    top = np.max(x, axis=axis, keepdims=True, initial=-np.inf)
    top = np.where(np.isfinite(top), top, 0)
    total = np.sum(np.exp(x - top), axis=axis, keepdims=True)
    with np.errstate(divide="ignore"):  # the logarithm of an empty sum is −∞
        y = np.log(total) + top
    spread = _spread(x, axis, keepdims)
    return _dropped(y, axis, keepdims), (lambda g: spread(g) * np.exp(x - top) / total,)


@op
def cumsum(x, *, axis=None):
    """The sums of x up to and including each element along `axis`; of x flattened when None."""
    x = array(x)
    along = 0 if axis is None else axis

    def pull(g):
        return np.flip(np.cumsum(np.flip(g, along), axis=along), along).reshape(x.shape)

    return np.cumsum(x, axis=axis), (pull,)


def _spread(x, axis, keepdims):
    """The vjp of a sum over `axis`: g for each element of x, in memory of its own."""
    shape = x.shape

    def pull(g):
        kept = g if keepdims or axis is None else np.expand_dims(g, axis)
        return np.broadcast_to(kept, shape).copy()

    return pull


def _dropped(y, axis, keepdims):
    """y, computed with its reduced axes kept, as it was asked for."""
    return y if keepdims else np.squeeze(y, axis)


def _count(x, axis):
    """How many elements go into each result."""
    if axis is None:
        return x.size
    return math.prod(x.shape[i] for i in (axis if isinstance(axis, tuple) else (axis,)))


def _variance(x, axis, correction):
    """The variance with its axes kept, the deviations from the mean, and the divisor."""
    deviation = x - np.mean(x, axis=axis, keepdims=True)
    count = x.dtype.type(np.maximum(_count(x, axis) - correction, 0))
    return np.sum(deviation * deviation, axis=axis, keepdims=True) / count, deviation, count


def _to_equals(x, y, axis, keepdims):
    """The vjp of an extreme y of x: g, shared by the elements that are equal to y."""
    spread = _spread(x, axis, keepdims)

    def pull(g):
        equal = x == y
        return spread(g) * equal / np.sum(equal, axis=axis, keepdims=True, dtype=x.dtype)

    return pull
