"""Normalisations over the last axis."""

import math

import numpy as np

from entrenar_core import kernels
from entrenar_core.autograd.op import op
from entrenar_core.autograd.tape import into


@op
def rms_norm(x, weight, *, eps):
    """weight · x / √(mean(x²) + eps) over the last axis. x (..., D), weight (D,).

    Source: Zhang and Sennrich 2019, arXiv:1910.07467.
    """
    _check(x, weight, None)
    rows = _rows(x)
    y, rstd = kernels.rms_norm(rows, weight, eps=eps)

    def pull(g, dest_x, dest_weight):
        out, add = _target(dest_x, rows)
        dx, dweight = kernels.rms_norm_grad(_rows(g), rows, weight, rstd, out=out, add=add)
        return _given_back(dx, x, out, dest_x), _write(dweight, dest_weight)

    return y.reshape(x.shape), (into(pull, 2),)


@op
def layer_norm(x, weight=None, bias=None, *, eps):
    """weight · (x − μ)/σ + bias with μ = mean(x), σ = √(mean((x − μ)²) + eps) over the last axis.

    x (..., D), weight and bias (D,) or None.
    Source: Ba, Kiros and Hinton 2016, arXiv:1607.06450.
    """
    _check(x, weight, bias)
    rows = _rows(x)
    y, mean, rstd = kernels.layer_norm(rows, weight, bias, eps=eps)

    def pull(g, dest_x, dest_weight, dest_bias):
        out, add = _target(dest_x, rows)
        dx, dweight, dbias = kernels.layer_norm_grad(
            _rows(g), rows, weight, mean, rstd, out=out, add=add
        )
        dx = _given_back(dx, x, out, dest_x)
        return dx, _write(dweight, dest_weight), _write(dbias, dest_bias)

    return y.reshape(x.shape), (into(pull, 3),)


def _check(x, *vectors):
    if any(vector is not None and vector.shape != x.shape[-1:] for vector in vectors):
        raise ValueError("weight and bias have the size of x's last axis")


def _rows(x):
    return np.ascontiguousarray(x).reshape(math.prod(x.shape[:-1]), x.shape[-1])  # (N, D)


def _target(dest, rows):
    """Where a kernel writes dx (N, D), and whether it adds to what is there."""
    if dest is None or dest.array is None:
        return None, False
    return dest.array.reshape(rows.shape), dest.add


def _given_back(dx, x, out, dest):
    """dx in x's shape: the very array of `dest` if it was written there."""
    return dx.reshape(x.shape) if out is None else dest.array


def _write(gradient, dest):
    """Put a small gradient where `dest` wants it."""
    if dest is None or dest.array is None:
        return gradient
    if dest.add:
        kernels.accumulate(dest.array, gradient)
    else:
        dest.array[...] = gradient
    return dest.array
