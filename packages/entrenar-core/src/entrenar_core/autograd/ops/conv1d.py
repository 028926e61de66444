"""What GPT-2's layers need: weights that lie the other way round, and q, k, v from one product."""

import numpy as np

from entrenar_common.errors import ShapeError
from entrenar_core import kernels
from entrenar_core.autograd.op import op, takes_held
from entrenar_core.autograd.ops.matmul import starting_sum
from entrenar_core.autograd.precision import products
from entrenar_core.autograd.tape import into


@op
@takes_held("weight")
def conv1d(x, weight, bias=None, residual=None):
    """x W (+ bias) (+ residual): `linear` with the weight (I, O), as GPT-2's checkpoints have it.

    x (..., I), bias (O,), residual (..., O) → (..., O).
    """
    if x.shape[-1] != weight.shape[0]:
        raise ShapeError(
            f"conv1d: x {x.shape} has {x.shape[-1]} features, weight {weight.shape} takes "
            f"{weight.shape[0]}",
            hint="weight is (in_features, out_features)",
        )
    rows, multiply = x.reshape(-1, x.shape[-1]), products().matmul  # (N, I)
    shape = (*x.shape[:-1], weight.shape[1])
    y = starting_sum((len(rows), shape[-1]), bias, residual)
    y = multiply(rows, weight, out=y, add=y is not None)

    def flat(g):
        return np.ascontiguousarray(g).reshape(-1, weight.shape[1])  # (N, O)

    def pull_x(g, dest):
        out = None if dest.array is None else dest.array.reshape(rows.shape)
        dx = multiply(flat(g), weight, trans_b=True, out=out, add=dest.add)
        return dx.reshape(x.shape) if out is None else dest.array

    def pull_weight(g, dest):
        return multiply(rows, flat(g), trans_a=True, out=dest.array, add=dest.add)

    vjps = (into(pull_x), into(pull_weight), lambda g: flat(g).sum(axis=0), lambda g: g)
    return y.reshape(shape), vjps


@op
@takes_held("weight")
def gelu_conv1d(x, weight, bias=None, residual=None, *, approximate=False):
    """gelu(x) W (+ bias) (+ residual): `gelu_linear` with the weight (F, D).

    x (..., F), bias (D,), residual (..., D) → (..., D). gelu(x) is computed again backwards.
    """
    rows, multiply = x.reshape(-1, x.shape[-1]), products().matmul  # (N, F)
    shape = (*x.shape[:-1], weight.shape[1])
    y = starting_sum((len(rows), shape[-1]), bias, residual)
    inner = kernels.gelu(rows, approximate=approximate)
    y = multiply(inner, weight, out=y, add=y is not None)

    def flat(g):
        return np.ascontiguousarray(g).reshape(-1, weight.shape[1])  # (N, D)

    def pull(g, _dest, dest_weight):
        g = flat(g)
        dinner, again = multiply(g, weight, trans_b=True), np.empty_like(rows)
        dx = kernels.gelu_grad(dinner, rows, approximate=approximate, out=dinner, value=again)
        dweight = None
        if dest_weight is not None:
            out, add = dest_weight
            dweight = multiply(again, g, trans_a=True, out=out, add=add)
        return dx.reshape(x.shape), dweight

    return y.reshape(shape), (into(pull, 2), lambda g: flat(g).sum(axis=0), lambda g: g)


@op
def split_heads(x, *, part, parts, heads):
    """Number `part` of the `parts` equal parts of the last axis of x, divided into heads.

    x (B, T, parts·H·D) → (B, T, H, D), contiguous.
    """
    batch, time, width = x.shape
    if width % (parts * heads) or not 0 <= part < parts:
        raise ShapeError(
            f"split_heads: part {part} of {parts} of x {x.shape} in {heads} heads",
            hint="the last axis is a multiple of parts · heads",
        )
    size = width // parts
    start, stop = part * size, (part + 1) * size
    y = np.ascontiguousarray(x[:, :, start:stop]).reshape(batch, time, heads, size // heads)

    def pull(g, dest):
        # the parts of one x meet in one array, where each of them writes its own columns
        out, columns = dest.array, g.reshape(batch, time, size)
        if dest.add:
            out[:, :, start:stop] += columns
            return out
        out = np.empty(x.shape, x.dtype) if out is None else out
        out[:, :, :start] = 0
        out[:, :, start:stop] = columns
        out[:, :, stop:] = 0
        return out

    return y, (into(pull),)
