"""Elements and parts by index, and the sums that are their gradients."""

from types import EllipsisType

import numpy as np

from entrenar_common.errors import ShapeError
from entrenar_core import kernels
from entrenar_core.autograd.op import op
from entrenar_core.autograd.ops.operands import array, operands
from entrenar_core.autograd.tape import into
from entrenar_core.autograd.tensor import Tensor


@op
def getitem(x, index):
    """x[index] as NumPy has it: a view for numbers, slices, None and …, else a copy.

    An index of integers may name an element several times: its gradients add up.
    """
    x, index = array(x), _plain(index)
    try:
        y = x[index]
    except IndexError as problem:
        raise ShapeError(
            f"getitem: {x.dtype} {x.shape} at {_shown(index)}: {problem}",
            hint="an index is made of integers, slices, None, ... and arrays of integers or "
            "booleans",
        ) from problem
    repeats = any(isinstance(i, np.ndarray) and i.dtype != bool for i in index)

    def pull(g, dest):
        out = np.empty(x.shape, g.dtype) if dest.array is None else dest.array
        if not dest.add:
            out[...] = 0
        if repeats:
            _add_at(out, index, g)
        else:
            out[index] += g
        return out

    return y, (into(pull), None)


@op
def gather(x, indices, *, axis):
    """y[…, i, …] = x[…, indices[…, i, …], …]: the elements that `indices` name along `axis`.

    `indices` has as many axes as x; the others broadcast. NumPy's `take_along_axis`.
    """
    x = array(x)
    place = _along(x, indices, axis)

    def pull(g, dest):
        out = np.empty(x.shape, g.dtype) if dest.array is None else dest.array
        if not dest.add:
            out[...] = 0
        np.add.at(out, place, g)
        return out

    return x[place], (into(pull), None)


@op
def scatter_add(x, indices, values, *, axis):
    """x with each of `values` added to the element that `indices` names along `axis`.

    `values` broadcasts to the shape of `indices`; elements that are named repeatedly add up.
    """
    x, values = operands(x, values)
    place = _along(x, indices, axis)
    y = x.copy()
    np.add.at(y, place, values)
    return y, (lambda g: g, None, lambda g: g[place])


def _add_at(out, index, g):
    """out[index] += g, with integers in the index, which may name an element several times."""
    if len(index) == 1 and out.ndim > 1 and g.size:  # whole rows, which the kernel adds faster
        ids = index[0].reshape(-1).astype(np.int64) % len(out)
        rows, g = out.reshape(len(out), -1), g.reshape(len(ids), -1)
        kernels.embedding_grad(g, ids, out=rows, add=True)
    else:
        np.add.at(out, index, g)


def _plain(index):
    """The parts of an index, with arrays for tensors and lists."""
    return tuple(_array(i) for i in (index if isinstance(index, tuple) else (index,)))


def _array(part):
    if isinstance(part, Tensor):
        return part.data
    if isinstance(part, list):
        return np.asarray(part, None if part else np.intp)
    return np.asarray(part) if isinstance(part, bool | np.bool_) else part


def _shown(index):
    return ", ".join(
        f"{i.dtype} {i.shape}" if isinstance(i, np.ndarray) else _slice(i) for i in index
    )


def _slice(part):
    if isinstance(part, EllipsisType):
        return "..."
    if not isinstance(part, slice):
        return repr(part)
    ends = [part.start, part.stop] + ([] if part.step is None else [part.step])
    return ":".join("" if end is None else str(end) for end in ends)


def _along(x, indices, axis):
    """The index of x that has `indices` at `axis` and its own place everywhere else."""
    indices = np.asarray(indices)
    if indices.ndim != x.ndim or indices.dtype.kind not in "iu":
        raise ValueError(f"indices are {indices.dtype} {indices.shape}; x has {x.ndim} axes")
    if not -x.ndim <= axis < x.ndim:
        raise ValueError(f"x has no axis {axis}")
    place = list(np.ogrid[tuple(slice(n) for n in x.shape)])
    place[axis] = indices
    return tuple(place)
