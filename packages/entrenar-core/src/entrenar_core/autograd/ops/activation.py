"""Activations, alone and fused with the projection that follows them."""

import math

import numpy as np

from entrenar_core import kernels
from entrenar_core.autograd.op import op, takes_held
from entrenar_core.autograd.ops.matmul import starting_sum
from entrenar_core.autograd.precision import products
from entrenar_core.autograd.tape import into, joint


@op
def relu(x):
    """max(x, 0), with gradient 0 at 0."""
    y = np.maximum(x, 0)
    return y, (lambda g: np.where(y <= 0, 0, g),)


@op
def leaky_relu(x, *, slope=0.01):
    """x where x > 0, else slope·x, with gradient `slope` at 0."""
    factor = np.where(x > 0, 1, slope).astype(x.dtype)
    return x * factor, (lambda g: g * factor,)


@op
def sigmoid(x):
    """σ(x) = 1 / (1 + e⁻ˣ)."""
    y = kernels.sigmoid(x)
    return y, (lambda g: g * y * (1 - y),)


@op
def tanh(x):
    """The hyperbolic tangent."""
    y = np.tanh(x)
    return y, (lambda g: g * (1 - y * y),)


@op
def softplus(x, *, beta=1.0, threshold=20.0):
    """log(1 + e^(βx)) / β, and x itself where βx > `threshold`."""
    scaled = np.asarray(x * beta)
    linear = scaled > threshold
    y = np.where(linear, x, kernels.softplus(scaled) / beta)
    return y, (lambda g: np.where(linear, g, g * kernels.sigmoid(scaled)),)


@op
def silu(x):
    """x·σ(x), also known as swish: Ramachandran et al. 2017, arXiv:1710.05941."""
    return kernels.silu(x), (lambda g: kernels.silu_grad(g, x),)


swish = silu


@op
def gelu(x, *, approximate=False):
    """x·Φ(x) with the normal distribution function Φ.

    With `approximate` x·(1 + tanh(√(2/π)·(x + 0.044715·x³)))/2 instead.
    Source: Hendrycks and Gimpel 2016, arXiv:1606.08415.
    """
    y = kernels.gelu(x, approximate=approximate)
    return y, (lambda g: kernels.gelu_grad(g, x, approximate=approximate),)


@op
def swiglu(gate, up):
    """silu(gate)·up for gate and up of one shape: Shazeer 2020, arXiv:2002.05202."""
    _check_gate(gate, up)
    return kernels.swiglu(gate, up), (joint(lambda g: kernels.swiglu_grad(g, gate, up), 2),)


def _check_gate(gate, up):
    if gate.shape != up.shape:
        raise ValueError("gate and up have one shape")


@op
def softmax(x, *, axis=-1):
    """eˣ / Σ eˣ along `axis`."""
    rows, back = _as_rows(x, axis)
    y = kernels.softmax(rows)
    return back(y), (lambda g: back(kernels.softmax_grad(_as_rows(g, axis)[0], y)),)


@op
def log_softmax(x, *, axis=-1):
    """x − log Σ eˣ along `axis`."""
    rows, back = _as_rows(x, axis)
    y = kernels.log_softmax(rows)
    return back(y), (lambda g: back(kernels.log_softmax_grad(_as_rows(g, axis)[0], y)),)


def _as_rows(x, axis):
    """x as (N, D) with D along `axis`, and the function that takes such rows back to x's shape."""
    last = axis in (-1, x.ndim - 1)  # NumPy takes longer to move an axis nowhere than the rest does
    moved = x if last else np.moveaxis(x, axis, -1)
    shape = moved.shape

    def back(rows):
        y = rows.reshape(shape)
        return y if last else np.moveaxis(y, -1, axis)

    return _flat_rows(moved), back


def _flat_rows(x):
    """x (..., D) as (N, D), also where D is 0."""
    return x.reshape(math.prod(x.shape[:-1]), x.shape[-1])


@op
@takes_held("weight")
def swiglu_linear(gate, up, weight, bias=None, residual=None):
    """(silu(gate)·up) Wᵀ (+ bias) (+ residual).

    gate, up (..., F), weight (D, F), residual (..., D) → (..., D). The product silu(gate)·up is
    computed again backwards, which costs one pass and saves an activation of the largest width.
    """
    _check_gate(gate, up)
    gates, ups = _flat_rows(gate), _flat_rows(up)  # (N, F)

    def gradients(dinner, inner):
        dgate, dup = kernels.swiglu_grad(dinner, gates, ups, out=dinner, value=inner)
        return dgate.reshape(gate.shape), dup.reshape(up.shape)

    y, pull, *rest = _projected(kernels.swiglu(gates, ups), gradients, weight, bias, residual)
    return y.reshape(*gate.shape[:-1], len(weight)), (into(pull, 3), *rest)


@op
@takes_held("weight")
def gelu_linear(x, weight, bias=None, residual=None, *, approximate=False):
    """gelu(x) Wᵀ (+ bias) (+ residual).

    x (..., F), weight (D, F), residual (..., D) → (..., D). gelu(x) is computed again backwards.
    """
    rows = _flat_rows(x)  # (N, F)

    def gradients(dinner, inner):
        dx = kernels.gelu_grad(dinner, rows, approximate=approximate, out=dinner, value=inner)
        return (dx.reshape(x.shape),)

    inner = kernels.gelu(rows, approximate=approximate)
    y, pull, *rest = _projected(inner, gradients, weight, bias, residual)
    return y.reshape(*x.shape[:-1], len(weight)), (into(pull, 2), *rest)


@op
@takes_held("weight")
def relu_linear(x, weight, bias=None, residual=None):
    """max(x, 0) Wᵀ (+ bias) (+ residual).

    x (..., F), weight (D, F), residual (..., D) → (..., D). max(x, 0) is computed again backwards.
    """
    rows = _flat_rows(x)  # (N, F)

    def gradients(dinner, inner):
        value = np.maximum(rows, 0, out=inner)
        np.copyto(dinner, 0, where=value <= 0)
        return (dinner.reshape(x.shape),)

    y, pull, *rest = _projected(np.maximum(rows, 0), gradients, weight, bias, residual)
    return y.reshape(*x.shape[:-1], len(weight)), (into(pull, 2), *rest)


def _projected(inner, gradients, weight, bias, residual):
    """inner Wᵀ + bias + residual (N, D), and the pullbacks of everything but inner.

    `inner` (N, F) is not kept. `gradients(dinner, inner)` returns the gradients of what it is made
    of for its own gradient, whose memory it may use, and writes its value to the array `inner`, or
    nowhere if that is None.
    """
    shape = inner.shape
    if shape[1] != weight.shape[1]:
        raise ValueError("weight is (out_features, in_features)")
    multiply = products().matmul
    y = starting_sum((len(inner), len(weight)), bias, residual)
    y = multiply(inner, weight, trans_b=True, out=y, add=y is not None)

    def pull(g, *dests):
        rows, dest = _flat_rows(g), dests[-1]  # (N, D)
        again = None if dest is None else np.empty(shape, g.dtype)
        found = gradients(multiply(rows, weight), again)
        if dest is None:
            return *found, None
        dweight = multiply(rows, again, trans_a=True, out=dest.array, add=dest.add)
        return *found, dweight

    def pull_bias(g):
        return _flat_rows(g).sum(axis=0)

    return y, pull, pull_bias, lambda g: g
