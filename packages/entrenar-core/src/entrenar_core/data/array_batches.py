"""Batches of rows of arrays: inputs and what is wanted for them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from entrenar_common.errors import ConfigError, ShapeError
from entrenar_core.data.batches import epoch_order

__all__ = ["ArrayBatch", "ArrayBatches"]


@dataclass(frozen=True, eq=False)
class ArrayBatch:
    """Some rows of inputs and of what is wanted for them, (B, …) each."""

    inputs: npt.NDArray[Any]
    wanted: npt.NDArray[Any]
    row_ids: npt.NDArray[np.int64]

    @property
    def targets(self) -> int:
        """How many rows there are: what a mean loss divides by."""
        return len(self.inputs)

    @property
    def tokens(self) -> int:
        """The same: a row is what is counted in the log."""
        return len(self.inputs)

    def part(self, rows: slice, _tokens: slice = slice(None)) -> "ArrayBatch":
        """Some of the rows; views, not copies."""
        return ArrayBatch(self.inputs[rows], self.wanted[rows], self.row_ids[rows])


class ArrayBatches:
    """Training batches of `inputs` (N, …) and `wanted` (N, …): position 0, 1, 2 … counts them from
    the start, across epochs.

    Each epoch has every row at most once, in an order that depends on seed and epoch only; the rows
    that do not fill a batch are left out of that epoch.

    Raises ShapeError where the arrays have not the same number of rows, ConfigError where they do
    not make one batch.

    >>> batches = ArrayBatches(np.arange(6.0)[:, None], np.arange(6), batch_size=2, seed=0)
    >>> epoch = np.concatenate([batches.batch(position).wanted for position in range(3)])
    >>> batches.steps_per_epoch, sorted(epoch.tolist())
    (3, [0, 1, 2, 3, 4, 5])
    """

    def __init__(
        self, inputs: npt.NDArray[Any], wanted: npt.NDArray[Any], *, batch_size: int, seed: int = 0
    ):
        if len(inputs) != len(wanted):
            raise ShapeError(
                f"{len(inputs)} rows of inputs and {len(wanted)} of what is wanted",
                hint="give one of the other for each",
            )
        if not 1 <= batch_size <= len(inputs):
            raise ConfigError(
                f"batch_size {batch_size} of {len(inputs)} rows",
                hint="it is at least 1, and at most the number of rows",
            )
        self.rows, self.batch_size = len(inputs), batch_size
        self.steps_per_epoch = self.rows // batch_size
        self._inputs, self._wanted, self._seed = inputs, wanted, seed
        self._order: tuple[int, npt.NDArray[np.int64]] | None = None

    def batch(self, position: int) -> ArrayBatch:
        """The batch at `position`, the same in every process and in any order of calls."""
        if position < 0:
            raise ConfigError(f"batch position {position} is negative", hint="positions start at 0")
        epoch, step = divmod(position, self.steps_per_epoch)
        if self._order is None or self._order[0] != epoch:
            self._order = epoch, epoch_order(self.rows, self._seed, epoch)
        start = step * self.batch_size
        return self.gather(self._order[1][start : start + self.batch_size])

    def gather(self, row_ids: npt.NDArray[np.int64]) -> ArrayBatch:
        """The rows of these numbers, in this order."""
        return ArrayBatch(self._inputs[row_ids], self._wanted[row_ids], row_ids)

    def names(self, row_ids: Sequence[int] | npt.NDArray[np.int64]) -> list[str]:
        """What the rows are called: their numbers."""
        return [f"row {int(row)}" for row in row_ids]
