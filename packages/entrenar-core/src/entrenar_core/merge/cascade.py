"""Means of many rows, added up in the order in which torch does it on a CPU."""

from collections.abc import Callable

import numpy as np

LEVELS = 4
ROWS = 2**10
"""That are added up at a time where there are few columns, a multiple of a group."""
ELEMENTS = 2**18


def cascade_mean(read: Callable[[slice], np.ndarray], count: int, columns: int) -> np.ndarray:
    """The mean, float32 (columns,), of the `count` rows that `read` gives, as float32.

    Groups of 2ᵖ rows are added up one after the other, then the sums of 2ᵖ groups, and so on for
    four levels, so that an error grows with ⁴√count and not with count: p is ⌈log₂ count⌉ // 4, at
    least 4. Source: Higham, "The accuracy of floating point summation" (1993). The order is that of
    torch's reductions over an outer axis, in all columns that fill its vectors.
    """
    power = max(4, (count - 1).bit_length() // LEVELS)
    group = 1 << power
    sums = np.zeros((LEVELS, columns), np.float32)
    step = max(group, min(ROWS, ELEMENTS // max(columns, 1)) // group * group)
    for start in range(0, count, step):
        rows = read(slice(start, min(start + step, count)))
        whole = len(rows) // group
        groups = np.add.reduce(rows[: whole * group].reshape(whole, group, columns), axis=1)
        for index, total in enumerate(groups):
            _carry(sums, total, done=start // group + index + 1, power=power)
        sums[0] = np.add.reduce(rows[whole * group :], axis=0)
    for level in range(1, LEVELS):
        sums[0] += sums[level]
    return sums[0] / np.float32(count)


def _carry(sums: np.ndarray, total: np.ndarray, *, done: int, power: int) -> None:
    """Adds the sum of a group to level 1, and each level that is full to the next one; `done` is
    the number of whole groups with this one."""
    sums[1] += total
    for level in range(2, LEVELS):
        if done % (1 << power * (level - 1)):
            return
        sums[level] += sums[level - 1]
        sums[level - 1] = 0
