"""Many rows added up in float32, in the order in which torch does it on a CPU."""

from collections.abc import Callable, Sequence

import numpy as np

from entrenar_core.kernels import summing

LEVELS = 4
ELEMENTS = 2**18
"""That are read at a time."""


def in_order(total: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """`total` (…, columns) and then `rows` (…, k, columns), added one after the other."""
    lead, shape = rows.shape[:-2], rows.shape[-2:]
    totals = np.broadcast_to(total, (*lead, shape[1])).reshape(-1, shape[1])
    return summing.add_rows(rows.reshape(-1, *shape), totals).reshape(*lead, shape[1])


class Cascade:
    """The sum of `count` rows, which come some at a time.

    Groups of 2ᵖ rows are added up one after the other, then the sums of 2ᵖ groups, and so on for
    four levels, so that an error grows with ⁴√count and not with count: p is ⌈log₂ count⌉ // 4, at
    least 4. Source: Higham, "The accuracy of floating point summation" (1993).
    """

    def __init__(self, count: int) -> None:
        self.group = 1 << max(4, (count - 1).bit_length() // LEVELS)
        self._levels = [_Level(self.group) for _ in range(LEVELS - 1)] + [_Level(None)]

    def add(self, rows: np.ndarray) -> None:
        """Some more rows, (…, k, columns)."""
        self._add(rows, self._levels)

    def add_groups(self, sums: np.ndarray) -> None:
        """The sums of some more groups of `group` rows, (…, m, columns), where all rows until now
        were such groups too."""
        self._add(sums, self._levels[1:])

    def _add(self, rows: np.ndarray, levels: "Sequence[_Level]") -> None:
        for level in levels:
            if not rows.size:
                return
            rows = level.add(rows)

    def total(self) -> np.ndarray:
        """Of all rows, (…, columns); 0 of none."""
        total = self._levels[0].sum
        for level in self._levels[1:]:
            total = total + level.sum
        return total


class _Level:
    """Adds rows up in groups of so many, or all of them; `sum` is that of the last, unfinished
    group."""

    def __init__(self, group: int | None) -> None:
        self.sum = np.zeros(1, np.float32)
        self._group, self._filled = group, 0

    def add(self, rows: np.ndarray) -> np.ndarray:
        """The sums (…, m, columns) of the groups that `rows` make whole."""
        if self._group is None:
            self.sum = in_order(self.sum, rows)
            return rows[..., :0, :]
        found = []
        if self._filled:
            rows = self._fill(rows, found)
        whole = rows.shape[-2] // self._group * self._group
        groups = rows[..., :whole, :].reshape(*rows.shape[:-2], -1, self._group, rows.shape[-1])
        found.append(in_order(np.zeros(1, np.float32), groups))
        self._fill(rows[..., whole:, :], found)
        return np.concatenate(found, axis=-2)

    def _fill(self, rows: np.ndarray, found: list[np.ndarray]) -> np.ndarray:
        """Take rows into the unfinished group; those that it has no room for."""
        assert self._group is not None
        taken = rows[..., : self._group - self._filled, :]
        if not taken.shape[-2]:
            return rows
        self.sum = in_order(self.sum, taken)
        self._filled += taken.shape[-2]
        if self._filled == self._group:
            found.append(self.sum[..., None, :])
            self.sum, self._filled = np.zeros(1, np.float32), 0
        return rows[..., taken.shape[-2] :, :]


def cascade_mean(read: Callable[[slice], np.ndarray], count: int, columns: int) -> np.ndarray:
    """The mean, float32 (columns,), of the `count` rows that `read` gives, as float32. It has the
    bits of torch's in all columns that fill its vectors."""
    cascade, step = Cascade(count), max(1, ELEMENTS // max(columns, 1))
    for start in range(0, count, step):
        cascade.add(read(slice(start, min(start + step, count))))
    return cascade.total() / np.float32(count)
