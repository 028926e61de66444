"""Matrix products, affine maps and table look-up: where a model's parameters are."""

import math

import numpy as np

from entrenar_common.errors import ShapeError
from entrenar_core import kernels
from entrenar_core.autograd.op import op, takes_held
from entrenar_core.autograd.ops.operands import operands
from entrenar_core.autograd.precision import WHOLE, products
from entrenar_core.autograd.tape import into

SMALL = 8192
"""Up to this many multiplications a BLAS multiplies in the calling thread, so a stack of such
matrices can be left to NumPy, which goes through it in one call."""


@op
@takes_held("weight")
def linear(x, weight, bias=None, residual=None):
    """x Wᵀ (+ bias) (+ residual).

    x (..., I), weight (O, I), bias (O,), residual (..., O) → (..., O). The product is added to the
    bias or residual in place, which saves a pass over memory.
    """
    if x.shape[-1] != weight.shape[1]:
        raise ShapeError(
            f"linear: x {x.dtype} {x.shape} has {x.shape[-1]} features, weight {weight.dtype} "
            f"{weight.shape} takes {weight.shape[1]}",
            hint="weight is (out_features, in_features)",
        )
    rows, multiply = x.reshape(-1, x.shape[-1]), products().matmul  # (N, I)
    shape = (*x.shape[:-1], weight.shape[0])
    y = starting_sum((len(rows), shape[-1]), bias, residual)
    y = multiply(rows, weight, trans_b=True, out=y, add=y is not None)

    def flat(g):
        return g.reshape(-1, weight.shape[0])  # (N, O)

    def pull_x(g, dest):
        out = None if dest.array is None else dest.array.reshape(rows.shape)
        dx = multiply(flat(g), weight, out=out, add=dest.add)
        return dx.reshape(x.shape) if out is None else dest.array

    def pull_weight(g, dest):
        return multiply(flat(g), rows, trans_a=True, out=dest.array, add=dest.add)

    vjps = (into(pull_x), into(pull_weight), lambda g: flat(g).sum(axis=0), lambda g: g)
    return y.reshape(shape), vjps


def starting_sum(shape, bias, residual):
    """What a product is added to: a new array of `shape` (N, O) with bias and residual, or None."""
    if residual is not None:
        y = residual.reshape(shape).copy()
        return y if bias is None else np.add(y, bias, out=y)
    return None if bias is None else np.broadcast_to(bias, shape).copy()


@op
@takes_held("weight")
def embedding(weight, ids, *, padding_idx=None):
    """Rows of weight (V, D) at the integers ids (...,) → (..., D).

    The row `padding_idx` gets no gradient.
    """
    ids = np.asarray(ids)
    flat = ids.reshape(-1)
    if flat.size and (flat.min() < 0 or flat.max() >= len(weight)):
        raise ShapeError(
            f"embedding: ids {ids.dtype} {ids.shape} from {flat.min()} to {flat.max()} for a table "
            f"{weight.dtype} {weight.shape} of {len(weight)} rows",
            hint="the ids come from a tokenizer that does not belong to this model",
        )

    def pull(g, dest):
        out = np.empty(weight.shape, weight.dtype) if dest.array is None else dest.array
        rows, places = g.reshape(len(flat), weight.shape[1]), flat
        if padding_idx is not None and (flat == padding_idx).any():
            trained = flat != padding_idx
            rows, places = rows[trained], flat[trained]
        return kernels.embedding_grad(rows, places, out=out, add=dest.add)

    y = kernels.embedding(weight, flat).reshape(*ids.shape, weight.shape[1])
    return y, (into(pull), None)


@op
def matmul(x, y):
    """x @ y: (..., M, K), (..., K, N) → (..., M, N); the leading axes broadcast.

    As in NumPy, an x of one axis is a row and a y of one axis a column, and the axis of length 1
    that this adds is taken out of the result.
    """
    x, y = operands(x, y)
    if 0 in (x.ndim, y.ndim) or x.shape[-1] != y.shape[max(y.ndim - 2, 0)]:
        raise ShapeError(
            f"matmul: x {x.dtype} {x.shape} and y {y.dtype} {y.shape} do not fit",
            hint="the last axis of x is as long as the last but one of y, or its only one",
        )
    return _one_matrix(x, y) if y.ndim <= 2 else _stack(x, y)


def _one_matrix(x, y):
    """One y for all of x: the rows of x are one matrix too."""
    by = products()
    rows = x.reshape(math.prod(x.shape[:-1]), x.shape[-1])  # (R, K)
    b = y[:, None] if y.ndim == 1 else y  # (K, N)
    z = product(rows, b, by)  # (R, N)

    def pull_x(g):
        return product(g.reshape(z.shape), b.T, by).reshape(x.shape)

    def pull_y(g):
        return product(rows.T, g.reshape(z.shape), by).reshape(y.shape)

    return z.reshape(x.shape[:-1] + y.shape[1:]), (pull_x, pull_y)


def _stack(x, y):
    by = products()
    a = x[None, :] if x.ndim == 1 else x
    z = product(a, y, by)  # (..., M, N)

    def pull_x(g):
        dx = product(g.reshape(z.shape), y.swapaxes(-1, -2), by)  # (..., M, K)
        return dx[..., 0, :] if x.ndim == 1 else dx

    def pull_y(g):
        return product(a.swapaxes(-1, -2), g.reshape(z.shape), by)

    return z[..., 0, :] if x.ndim == 1 else z, (pull_x, pull_y)


def product(a, b, by):
    """a @ b for arrays of at least two axes, by the kernels `by` (Products), whatever number of
    threads the same in float32."""
    if a.ndim == b.ndim == 2:
        return _matrices(a, b, by)
    (m, k), n = a.shape[-2:], b.shape[-1]
    if by is WHOLE and (a.dtype != np.float32 or m * n * k <= SMALL):
        return np.matmul(a, b)
    batch = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    a, b = _flat(a, batch), _flat(b, batch)  # (S, M, K), (S, K, N)
    trans_a, trans_b = _lies_by_columns(a), _lies_by_columns(b)
    z = by.matmul_stack(
        a.swapaxes(1, 2) if trans_a else a,
        b.swapaxes(1, 2) if trans_b else b,
        trans_a=trans_a,
        trans_b=trans_b,
    )
    return z.reshape(*batch, m, n)


def _matrices(a, b, by):
    trans_a, trans_b = _lies_by_columns(a), _lies_by_columns(b)
    return by.matmul(a.T if trans_a else a, b.T if trans_b else b, trans_a=trans_a, trans_b=trans_b)


def _flat(x, batch):
    """A stack with one leading axis, of `batch`, to which its own broadcast."""
    return np.broadcast_to(x, batch + x.shape[-2:]).reshape(math.prod(batch), *x.shape[-2:])


def _lies_by_columns(matrix):
    """Whether the kernel would have to copy the matrix, and not its transpose."""
    down, across = matrix.strides[-2:]
    return across != matrix.itemsize and down == matrix.itemsize
