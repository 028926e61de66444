"""Affine maps and table look-up: where a model's parameters are."""

import numpy as np

from entrenar_common.errors import ShapeError
from entrenar_core import kernels
from entrenar_core.autograd.op import op
from entrenar_core.autograd.tape import into


@op
def linear(x, weight, bias=None, residual=None):
    """x Wᵀ (+ bias) (+ residual).

    x (..., I), weight (O, I), bias (O,), residual (..., O) → (..., O). The product is added to the
    bias or residual in place, which saves a pass over memory.
    """
    if x.shape[-1] != weight.shape[1]:
        raise ShapeError(
            f"linear: x {x.shape} has {x.shape[-1]} features, weight {weight.shape} takes "
            f"{weight.shape[1]}",
            hint="weight is (out_features, in_features)",
        )
    rows = x.reshape(-1, x.shape[-1])  # (N, I)
    shape = (*x.shape[:-1], weight.shape[0])
    y = starting_sum((len(rows), shape[-1]), bias, residual)
    y = kernels.matmul(rows, weight, trans_b=True, out=y, add=y is not None)

    def flat(g):
        return g.reshape(-1, weight.shape[0])  # (N, O)

    def pull_x(g, dest):
        out = None if dest.array is None else dest.array.reshape(rows.shape)
        dx = kernels.matmul(flat(g), weight, out=out, add=dest.add)
        return dx.reshape(x.shape) if out is None else dest.array

    def pull_weight(g, dest):
        return kernels.matmul(flat(g), rows, trans_a=True, out=dest.array, add=dest.add)

    vjps = (into(pull_x), into(pull_weight), lambda g: flat(g).sum(axis=0), lambda g: g)
    return y.reshape(shape), vjps


def starting_sum(shape, bias, residual):
    """What a product is added to: a new array of `shape` (N, O) with bias and residual, or None."""
    if residual is not None:
        y = residual.reshape(shape).copy()
        return y if bias is None else np.add(y, bias, out=y)
    return None if bias is None else np.broadcast_to(bias, shape).copy()


@op
def embedding(weight, ids):
    """Rows of weight (V, D) at the integers ids (...,) → (..., D)."""
    flat = ids.reshape(-1)
    if flat.size and (flat.min() < 0 or flat.max() >= len(weight)):
        raise ShapeError(
            f"embedding: ids {flat.min()} to {flat.max()} for a table of {len(weight)} rows",
            hint="the ids come from a tokenizer that does not belong to this model",
        )

    def pull(g, dest):
        out = np.empty(weight.shape, weight.dtype) if dest.array is None else dest.array
        return kernels.embedding_grad(g.reshape(len(flat), -1), flat, out=out, add=dest.add)

    y = kernels.embedding(weight, flat).reshape(*ids.shape, weight.shape[1])
    return y, (into(pull), None)
