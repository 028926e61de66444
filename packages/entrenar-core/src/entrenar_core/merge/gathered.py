"""Rows that are gathered from other tensors where they are read."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from entrenar_core.merge.cascade import cascade_mean
from entrenar_core.merge.group import Rows, rounded_to
from entrenar_core.quant.pieces import widened

NEAR = 2**12
"""Elements between two rows that are read together: a read of its own would take longer."""

ZEROS = -1
"""The tensor that a row of zeros comes from."""

MEAN = -2
"""That of a row which is the mean of all others."""


@dataclass(frozen=True, eq=False)
class GatheredRows:
    """Row i is row `row[i]` of `tensors[origin[i]]`, or what a negative origin says."""

    tensors: Sequence[Rows]
    origin: np.ndarray
    row: np.ndarray
    dtype: np.dtype

    @property
    def shape(self) -> tuple[int, int]:
        return len(self.origin), self.tensors[0].shape[1]

    def read(self, part: slice) -> np.ndarray:
        """Some rows, (m, columns), a copy."""
        origin, row = self.origin[part], self.row[part]
        out = self._gather(origin, row)
        if (rest := origin == MEAN).any():
            out[rest] = self._mean
        return out

    def release(self) -> None:
        """Lets the pages of all tensors go."""
        for tensor in self.tensors:
            tensor.release()

    def _gather(self, origin: np.ndarray, row: np.ndarray) -> np.ndarray:
        out = np.empty((len(origin), self.shape[1]), self.dtype)
        for index in np.unique(origin):
            here = np.flatnonzero(origin == index)
            if index < 0:
                out[here] = 0
            else:
                gather(self.tensors[index], row[here], out=out, at=here)
        return out

    @cached_property
    def _mean(self) -> np.ndarray:
        """Of the rows that are no mean, added up in float32 and rounded once."""
        used = np.flatnonzero(self.origin != MEAN)
        origin, row = self.origin[used], self.row[used]

        def read(part: slice) -> np.ndarray:
            return widened(self._gather(origin[part], row[part]))

        found = cascade_mean(read, len(used), self.shape[1])
        return rounded_to(found[None], self.dtype)[0].astype(self.dtype)


@dataclass(frozen=True, eq=False)
class AsColumn:
    """A tensor of one axis, as rows of one element each."""

    tensor: Rows

    @property
    def shape(self) -> tuple[int, int]:
        return self.tensor.shape[0], 1

    @property
    def dtype(self) -> np.dtype:
        return self.tensor.dtype

    def read(self, part: slice) -> np.ndarray:
        """Some elements, (m, 1)."""
        return self.tensor.read(slice(0, 1))[0, part, None]

    def release(self) -> None:
        """Lets the pages of the tensor go."""
        self.tensor.release()


def gather(tensor: Rows, rows: np.ndarray, *, out: np.ndarray, at: np.ndarray) -> None:
    """Puts the rows of these numbers into the rows `at` of `out`, in its type.

    Where reads are views of memory, all is read and nothing but these rows is touched. Elsewhere
    rows that are near each other are read as one slice, and no others.
    """
    if len(rows) == 0:
        return
    if _gives_views(tensor):
        _put(tensor.read(slice(0, tensor.shape[0])), rows, out=out, at=at)
        return
    order = np.argsort(rows, kind="stable")
    rows, at = rows[order], at[order]
    cuts = np.flatnonzero(np.diff(rows) > NEAR // max(tensor.shape[1], 1)) + 1
    for run, places in zip(np.split(rows, cuts), np.split(at, cuts), strict=True):
        found = tensor.read(slice(int(run[0]), int(run[-1]) + 1))
        _put(found, run - run[0], out=out, at=places)


def _gives_views(tensor: Rows) -> bool:
    part = slice(0, 1)
    return np.may_share_memory(tensor.read(part), tensor.read(part))


def _put(found: np.ndarray, rows: np.ndarray, *, out: np.ndarray, at: np.ndarray) -> None:
    if found.dtype == out.dtype:  # bits: numpy copies its own types many times as fast
        bits = f"u{out.dtype.itemsize}"
        found, out = found.view(bits), out.view(bits)
    out[at] = found[rows]
