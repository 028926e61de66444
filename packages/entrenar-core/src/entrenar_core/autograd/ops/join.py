"""Several tensors as one, and one as several."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from entrenar_common.errors import ShapeError
from entrenar_core.autograd.op import op
from entrenar_core.autograd.ops.indexing import getitem
from entrenar_core.autograd.ops.operands import operands
from entrenar_core.autograd.tensor import Tensor


def _of_a_list(function: Callable[..., Any]) -> Callable[..., Tensor]:
    """`function(*arrays, axis)` as an operation on a list of tensors."""
    recorded = op(function)

    def call(tensors: Sequence[Any], *, axis: int = 0) -> Tensor:
        return recorded(*tensors, axis=axis)

    call.__name__, call.__doc__ = function.__name__, function.__doc__
    return call


@_of_a_list
def concat(*arrays, axis):
    """The tensors of a list, joined along `axis`; their other axes have equal lengths."""
    arrays = operands(*arrays)
    y = np.concatenate(arrays, axis)
    ends = np.cumsum([a.shape[axis] for a in arrays])
    starts = (slice(end - a.shape[axis], end) for end, a in zip(ends, arrays, strict=True))
    return y, tuple(_part(np.s_[start], axis, y.ndim) for start in starts)


@_of_a_list
def stack(*arrays, axis):
    """The tensors of a list, all of one shape, along a new axis that has position `axis`."""
    y = np.stack(operands(*arrays), axis)
    return y, tuple(_part(i, axis, y.ndim) for i in range(len(arrays)))


def split(x: Any, parts: int | Sequence[int], *, axis: int = 0) -> list[Tensor]:
    """x cut along `axis`: `parts` is the number of equal parts, or the list of their lengths.

    The parts are views of x. Raises ShapeError when they do not add up to the axis.

    >>> [part.shape for part in split(Tensor(np.zeros((2, 6))), [1, 5], axis=1)]
    [(2, 1), (2, 5)]
    """
    x = x if isinstance(x, Tensor) else Tensor(x)
    lengths = _lengths(x.shape, parts, axis)
    ends = np.cumsum(lengths, dtype=int)
    before = (slice(None),) * (axis % x.ndim)
    return [
        getitem(x, (*before, slice(end - n, end))) for n, end in zip(lengths, ends, strict=True)
    ]


def _lengths(shape: tuple[int, ...], parts: int | Sequence[int], axis: int) -> list[int]:
    if not -len(shape) <= axis < len(shape):
        raise ShapeError(f"split: {shape} has no axis {axis}", hint="give one that x has")
    if isinstance(parts, int):
        lengths = [shape[axis] // parts] * parts if parts > 0 else []
    else:
        lengths = list(parts)
    if sum(lengths) != shape[axis] or min(lengths, default=0) < 0:
        raise ShapeError(
            f"split: axis {axis} of {shape} cannot be cut into {parts}",
            hint="give a number that divides the axis, or a list of lengths that add up to it",
        )
    return lengths


def _part(place: Any, axis: int, ndim: int) -> Callable[[Any], Any]:
    """The vjp of an input that lies at `place` of `axis` in a result of `ndim` axes."""
    index = (*(slice(None),) * (axis % ndim), place)
    return lambda g: g[index]
