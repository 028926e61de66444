"""Rearrangements that copy nothing where NumPy can avoid it."""

import numpy as np

from entrenar_core.autograd.op import op
from entrenar_core.autograd.ops.operands import array


@op
def reshape(x, shape):
    """x with the same elements in `shape`, of which one length may be −1: what is left."""
    x = array(x)
    before = x.shape
    return x.reshape(shape), (lambda g: g.reshape(before), None)


@op
def transpose(x, axis1=None, axis2=None):
    """x with two of its axes exchanged, the last two by default. `permute` takes all of them."""
    x = array(x)
    first, second = (-2 if axis1 is None else axis1), (-1 if axis2 is None else axis2)
    return x.swapaxes(first, second), (lambda g: g.swapaxes(first, second), None, None)


@op
def permute(x, axes):
    """x with its axes in the order `axes`: y.shape[i] = x.shape[axes[i]]."""
    x = array(x)
    y = x.transpose(axes)
    back = np.argsort(np.arange(x.ndim)[list(axes)])
    return y, (lambda g: g.transpose(back), None)


@op
def expand(x, shape):
    """x broadcast to `shape`, where −1 keeps a length. A view: the elements are not repeated."""
    x = array(x)
    shape = (shape,) if isinstance(shape, int) else tuple(shape)
    new = len(shape) - x.ndim
    if any(n == -1 and i < new for i, n in enumerate(shape)):
        raise ValueError(f"a new axis of {shape} needs a length")
    wanted = tuple(x.shape[i - new] if n == -1 else n for i, n in enumerate(shape))
    return np.broadcast_to(x, wanted), (lambda g: g, None)


@op
def squeeze(x, *, axis=None):
    """x without the axes `axis` (all by default) of length 1."""
    x = array(x)
    before = x.shape
    return np.squeeze(x, axis), (lambda g: g.reshape(before),)


@op
def unsqueeze(x, axis):
    """x with new axes of length 1 that have the positions `axis` in the result."""
    x = array(x)
    before = x.shape
    return np.expand_dims(x, axis), (lambda g: g.reshape(before), None)


@op
def flip(x, *, axis=None):
    """x in reverse order along `axis` (all axes by default)."""
    return np.flip(array(x), axis), (lambda g: np.flip(g, axis),)


@op
def pad(x, widths, *, value=0.0):
    """x with `value` around it: `widths` is (before, after) for each axis, or a pair for all.

    A number is a pair of two equal widths.
    """
    x = array(x)
    y = np.pad(x, widths, constant_values=value)
    before = np.broadcast_to(np.asarray(widths, int), (x.ndim, 2))[:, 0]
    inside = tuple(slice(b, b + n) for b, n in zip(before, x.shape, strict=True))
    return y, (lambda g: g[inside], None)
