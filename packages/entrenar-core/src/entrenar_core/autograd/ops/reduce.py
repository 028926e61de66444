"""Sums and means over axes."""

import numpy as np

from entrenar_core.autograd.op import op


@op
def sum(x, *, axis=None, keepdims=False):  # noqa: A001
    """Σ x over `axis` (all axes by default)."""
    return np.sum(x, axis=axis, keepdims=keepdims), (_spread(x, axis, keepdims),)


@op
def mean(x, *, axis=None, keepdims=False):
    """The mean of x over `axis` (all axes by default)."""
    y = np.mean(x, axis=axis, keepdims=keepdims)
    spread, count = _spread(x, axis, keepdims), x.size / y.size
    return y, (lambda g: spread(g) / x.dtype.type(count),)


def _spread(x, axis, keepdims):
    shape = x.shape

    def pull(g):
        kept = g if keepdims or axis is None else np.expand_dims(g, axis)
        return np.broadcast_to(kept, shape).copy()

    return pull
