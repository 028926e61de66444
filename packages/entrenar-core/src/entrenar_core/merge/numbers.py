"""Arithmetic whose every step is rounded to the working type."""

from collections.abc import Callable
from typing import Any

import numpy as np

from entrenar_core.merge.group import Block, Group, rounded_to


class Numbers:
    """`r(x)` is x, an array or a number, rounded to what the working type of a group holds, as
    float32: what the same step would give if it were done in that type."""

    def __init__(self, work: np.dtype) -> None:
        self._work = work

    def __call__(self, x: Any) -> Any:
        if self._work == np.float32:
            return np.float32(x) if np.ndim(x) == 0 else np.asarray(x, np.float32)
        if np.ndim(x) < 2:
            return np.asarray(x, np.float32).astype(self._work).astype(np.float32)
        rows = np.ascontiguousarray(x, np.float32).reshape(-1, np.shape(x)[-1])
        return rounded_to(rows, self._work).reshape(np.shape(x))


def sums(group: Group, of: Callable[[Block], np.ndarray], *, axis: int | None = None) -> np.ndarray:
    """The sums of what `of` makes of each block, (…, rows, columns): over the whole tensor, or
    along an axis of its rows (1) or columns (0). Added in float64; (…, 1, 1), (…, rows, 1) or
    (…, 1, columns)."""
    along = {None: (-2, -1), 0: (-2,), 1: (-1,)}[axis]
    parts = [of(block).sum(axis=along, dtype=np.float64, keepdims=True) for block in group.blocks()]
    if axis == 1:
        return np.concatenate(parts, axis=-2)
    return np.sum(parts, axis=0)


def at(block: Block, statistic: np.ndarray) -> np.ndarray:
    """What belongs to a block of what `sums` gave: the rows that it has."""
    return statistic[..., block.part, :] if statistic.shape[-2] > 1 else statistic
