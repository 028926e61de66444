"""What several losses of features compute."""

from collections.abc import Iterable, Iterator

import numpy as np

from entrenar_common.errors import ShapeError
from entrenar_core.autograd import Tensor, ops


def sequences(
    mask: np.ndarray, documents: np.ndarray | None = None
) -> Iterator[tuple[int, np.ndarray]]:
    """The index that takes the positions that count out of each sequence of a batch, for the
    sequences in which there are any. A sequence is a row of `mask` (B, T) or, with `documents`
    (B, T), neighbours of a row that are of one document."""
    for number, row in enumerate(mask):
        if documents is None:
            parts = [row]
        else:
            numbers = np.cumsum(np.diff(documents[number], prepend=documents[number, :1]) != 0)
            parts = [row & (numbers == each) for each in np.unique(numbers[row])]
        yield from ((number, part) for part in parts if part.any())


def check_mask(mask: np.ndarray, *features: Tensor) -> None:
    """Raise ShapeError unless `mask` has a boolean for each position of all `features`."""
    shapes = [x.shape[:2] for x in features]
    if mask.dtype != bool or any(shape != mask.shape for shape in shapes):
        raise ShapeError(
            f"a mask {mask.dtype} {mask.shape} for features of {', '.join(map(str, shapes))} "
            "positions",
            hint="give booleans (B, T), True for the positions that count, and the features of "
            "student and teacher for the same ids",
        )


def length(x: Tensor, *, axis: int | None = None, keepdims: bool = False) -> Tensor:
    """√Σx² over `axis`, with gradient 0 where it is 0."""
    squares = ops.sum(x * x, axis=axis, keepdims=keepdims)
    zero = squares.data == 0
    return ops.where(zero, 0.0, ops.sqrt(ops.where(zero, 1.0, squares)))


def unit(x: Tensor) -> Tensor:
    """x (..., D) with every row of length 1; rows of zeros stay."""
    size = length(x, axis=-1, keepdims=True)
    return x / ops.where(size.data == 0, 1.0, size)


def total(losses: Iterable[Tensor], dtype: np.dtype) -> Tensor:
    """The sum of scalars, 0 of none."""
    found = Tensor(np.zeros((), dtype))
    for loss in losses:
        found = found + loss
    return found
