"""The k-th smallest magnitudes of a tensor, found by counting, without keeping or sorting it."""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from entrenar_core.kernels import trimming
from entrenar_core.kernels.trimming import LOWER, UPPER
from entrenar_core.merge.group import Block, Group


class Rank(NamedTuple):
    """The element at a rank, counted from 0 for the smallest: its magnitude, and how many elements
    are smaller and how many equal."""

    magnitude: float
    below: int
    equal: int


def ranked(
    groups: Sequence[Group], values: Callable[[Block], np.ndarray], ranks: Sequence[Sequence[int]]
) -> list[list[Rank]]:
    """For each row i of what `values` makes of a block, (n, size) float32, the blocks of all groups
    together, the elements at ranks[i]. Two passes; one where the working type is bfloat16, which
    has no lower half."""
    n = len(ranks)
    upper = np.zeros((n, UPPER), np.int64)
    for block in _blocks(groups):
        trimming.upper_counts(values(block), upper)
    before = np.cumsum(upper, axis=1) - upper
    bins = [[int(np.searchsorted(before[i], r, "right")) - 1 for r in ranks[i]] for i in range(n)]
    if all(group.work.name == "bfloat16" for group in groups):
        return [
            [Rank(_number(b, 0), int(before[i, b]), int(upper[i, b])) for b in bins[i]]
            for i in range(n)
        ]
    most = max(map(len, bins))
    wanted = np.array([[*row, *[UPPER] * (most - len(row))] for row in bins])  # UPPER: none has it
    lower = np.zeros((most, n, LOWER), np.int64)
    for block in _blocks(groups):
        found = values(block)
        for column in range(most):
            trimming.lower_counts(found, wanted[:, column], lower[column])
    return [
        [
            _within(lower[column, i], bins[i][column], int(before[i, bins[i][column]]), rank)
            for column, rank in enumerate(ranks[i])
        ]
        for i in range(n)
    ]


def _blocks(groups: Sequence[Group]) -> Iterator[Block]:
    for group in groups:
        yield from group.blocks()


def _within(counts: np.ndarray, upper: int, before: int, rank: int) -> Rank:
    below = before + np.cumsum(counts) - counts
    low = int(np.searchsorted(below, rank, "right")) - 1
    return Rank(_number(upper, low), int(below[low]), int(counts[low]))


def _number(upper: int, lower: int) -> float:
    return float(np.uint32(upper << 16 | lower).view(np.float32))
