"""Normalisations."""

import numpy as np

from entrenar_core import kernels
from entrenar_core.autograd.op import op
from entrenar_core.autograd.tape import into


@op
def rms_norm(x, weight, *, eps):
    """weight · x / √(mean(x²) + eps) over the last axis. x (..., D), weight (D,)."""
    rows = x.reshape(-1, x.shape[-1])  # (N, D)
    y, rstd = kernels.rms_norm(rows, weight, eps=eps)

    def pull(g, dest_x, dest_weight):
        out, add = (None, False) if dest_x is None else dest_x
        flat = None if out is None else out.reshape(rows.shape)
        g = np.ascontiguousarray(g).reshape(rows.shape)
        dx, dweight = kernels.rms_norm_grad(g, rows, weight, rstd, out=flat, add=add)
        dx = dx.reshape(x.shape) if out is None else out
        return dx, _write(dweight, dest_weight)

    return y.reshape(x.shape), (into(pull, 2),)


def _write(gradient, dest):
    """Put a small gradient where `dest` wants it."""
    if dest is None or dest.array is None:
        return gradient
    if dest.add:
        kernels.accumulate(dest.array, gradient)
    else:
        dest.array[...] = gradient
    return dest.array
