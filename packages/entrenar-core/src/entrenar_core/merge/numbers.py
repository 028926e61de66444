"""Arithmetic whose every step is rounded to the working type."""

from collections.abc import Callable
from typing import Any

import numpy as np

from entrenar_core.merge.group import Block, Group, rounded_to
from entrenar_core.merge.ordered import (
    Cascaded,
    CascadedColumns,
    Dot,
    Lanes,
    OneByOne,
    Order,
    Squares,
    WideDot,
    added,
)


class Numbers:
    """`r(x)` is x, an array or a number, rounded to what the working type of a group holds, as
    float32: what the same step would give if it were done in that type."""

    def __init__(self, work: np.dtype) -> None:
        self.work = work

    def __call__(self, x: Any) -> Any:
        if self.work == np.float32:
            return np.float32(x) if np.ndim(x) == 0 else np.asarray(x, np.float32)
        if np.ndim(x) < 2:
            return np.asarray(x, np.float32).astype(self.work).astype(np.float32)
        rows = np.ascontiguousarray(x, np.float32).reshape(-1, np.shape(x)[-1])
        return rounded_to(rows, self.work).reshape(np.shape(x))


Of = Callable[[Block], np.ndarray]
"""What is looked at of a block: (…, rows, columns), numbers of the working type."""

SINGLE = np.dtype(np.float32)


def sums(group: Group, of: Of, *, axis: int | None = None) -> np.ndarray:
    """The sums of what `of` makes of each block: over the whole tensor, or along an axis of its
    rows (1) or columns (0). (…, 1, 1), (…, rows, 1) or (…, 1, columns), not yet rounded.

    Added as torch adds numbers of the working type.
    """
    (rows, columns), as_wide = group.rows_and_columns, group.work == SINGLE
    if axis == 0 and columns > 1:
        return _along(group, of, 0, lambda: CascadedColumns(rows, columns, as_wide=as_wide))
    size = columns if axis == 1 else group.size
    return _along(group, of, axis, lambda: Cascaded(size, as_wide=as_wide))


def sum_of(numbers: np.ndarray, work: np.dtype) -> np.ndarray:
    """The sum of a few numbers (n,), added as in `sums`, not yet rounded."""
    return added([numbers], Cascaded(len(numbers), as_wide=work == SINGLE))


def mean_of(found: np.ndarray) -> np.ndarray:
    """The means (rows, 1) of several numbers (n, rows, 1) for each row or for all of them, added as
    in `means`, not yet rounded."""
    count, rows, _ = found.shape
    one = Cascaded(count, as_wide=True)
    order = CascadedColumns(count, rows, as_wide=True) if rows > 1 else one
    return added([found[..., 0].T], order)[:, None] / np.float32(count)


def means(group: Group, of: Of) -> np.ndarray:
    """The means over the whole tensor of what `of` makes of each block, added as in `sums`:
    (…, 1, 1), not yet rounded."""
    found = _along(group, of, None, lambda: Cascaded(group.size, as_wide=True))
    return found / np.float32(group.size)


def norms(group: Group, of: Of, *, axis: int | None = None) -> np.ndarray:
    """The Euclidean norms of what `of` makes of each block, added as in `sums`, in numbers of the
    working type."""
    return Numbers(group.work)(np.sqrt(_squares(group, of, axis, group.work)))


def wide_norms(group: Group, of: Of) -> np.ndarray:
    """The norms over the whole tensor of the same numbers as float32; not rounded to the working
    type."""
    return np.sqrt(_squares(group, of, None, SINGLE)).astype(np.float32)


def _squares(group: Group, of: Of, axis: int | None, kind: np.dtype) -> np.ndarray:
    """The sums of squares of numbers that are `kind` when torch adds them."""

    of_columns = axis == 0 and group.rows_and_columns[1] > 1
    if kind == SINGLE and not of_columns:
        return _along(group, of, axis, Squares)

    def squares(block: Block) -> np.ndarray:
        return np.square(of(block))

    one_by_one = kind == np.float16 or of_columns
    return _along(group, squares, axis, OneByOne if one_by_one else Lanes)


def dot_products(group: Group, of: Of) -> np.ndarray:
    """The inner products, over the whole tensor, of those vectors whose products of elements `of`
    makes of each block: (…, 1, 1), added as in `sums`, not yet rounded."""
    return _along(group, of, None, WideDot if group.work == SINGLE else Dot)


def _along(group: Group, of: Of, axis: int | None, order: Callable[[], Order]) -> np.ndarray:
    parts = (of(block) for block in group.blocks())
    if axis == 1:
        return np.concatenate([added([x], order()) for x in parts], axis=-1)[..., None]
    if axis == 0:
        return added((x.swapaxes(-1, -2) for x in parts), order())[..., None, :]
    return added((x.reshape(*x.shape[:-2], -1) for x in parts), order())[..., None, None]


def at(block: Block, statistic: np.ndarray) -> np.ndarray:
    """What belongs to a block of what `sums` gave: the rows that it has."""
    return statistic[..., block.part, :] if statistic.shape[-2] > 1 else statistic
