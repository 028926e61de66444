"""Batches of whole texts: rows of like length together, in an order that a seed decides."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from entrenar_common.errors import ConfigError
from entrenar_core.data.texts import Labels, Texts
from entrenar_core.rng import stream

__all__ = ["TextBatch", "TextBatches"]

Int64 = npt.NDArray[np.int64]

_STEPS_SORTED = 16
"""Optimizer steps whose rows are sorted by length together: most of the padding is gone, and what
is in a step still depends on chance."""


@dataclass(frozen=True, eq=False)
class TextBatch:
    """Whole texts, padded behind.

    ids:     int64 (B, T)
    mask:    which of them are no padding, booleans (B, T)
    row_ids: which rows of the dataset these are, int64 (B,)
    labels:  their classes, int64 (B,); None where there are none
    types:   which text of a pair each id is of, int64 (B, T); None where there are no pairs
    """

    ids: Int64
    mask: npt.NDArray[np.bool_]
    row_ids: Int64
    labels: Labels | None = None
    types: Int64 | None = None

    @property
    def targets(self) -> int:
        """How many texts there are: what a mean loss divides by."""
        return len(self.ids)

    @property
    def tokens(self) -> int:
        """How many ids are no padding."""
        return int(np.count_nonzero(self.mask))

    def part(self, rows: slice, tokens: slice = slice(None)) -> "TextBatch":
        """Some rows, and of these some columns; views, not copies."""
        return TextBatch(
            self.ids[rows, tokens],
            self.mask[rows, tokens],
            self.row_ids[rows],
            None if self.labels is None else self.labels[rows],
            None if self.types is None else self.types[rows, tokens],
        )


class TextBatches:
    """Training batches of `texts`: position 0, 1, 2 … counts them from the start, across epochs.

    The rows of an optimizer step, `accumulation` batches, are the same however the step is cut into
    batches; each epoch has every row at most once, in an order that depends on seed and epoch only,
    and the rows that do not fill a step are left out of that epoch. `fill` is the id of padding.

    Raises ConfigError when there are not enough rows for one step.
    """

    def __init__(
        self, texts: Texts, *, batch_size: int, accumulation: int, seed: int, fill: int
    ) -> None:
        self.rows = len(texts)
        self.batch_size = batch_size
        self._texts, self._fill, self._seed = texts, fill, seed
        self._step = batch_size * accumulation
        self._steps = self.rows // self._step
        self.steps_per_epoch = self._steps * accumulation
        self._order: tuple[int, Int64] | None = None
        if self._steps == 0:
            raise ConfigError(
                f"{self.rows} texts are fewer than the {self._step} of one optimizer step",
                hint="use more data, a smaller batch_size or less gradient_accumulation",
            )

    def batch(self, position: int) -> TextBatch:
        """The batch at `position`, the same in every process and in any order of calls."""
        if position < 0:
            raise ConfigError(f"batch position {position} is negative", hint="positions start at 0")
        epoch, place = divmod(position, self.steps_per_epoch)
        start = place * self.batch_size
        rows = self._rows(epoch)[start : start + self.batch_size]
        ids, mask, types = self._texts.padded(rows, self._fill)
        labels = self._texts.labels
        return TextBatch(ids, mask, rows, None if labels is None else labels[rows], types)

    def names(self, row_ids: Int64) -> list[str]:
        """What the rows are called."""
        return [self._texts.names[int(row)] for row in row_ids]

    def _rows(self, epoch: int) -> Int64:
        """The rows of an epoch in the order in which they are taken."""
        if self._order is None or self._order[0] != epoch:
            # Raw bits are the same in every version of numpy; its permutation need not be.
            bits = stream(self._seed, "data order", epoch).bit_generator
            mixed = np.argsort(bits.random_raw(self.rows), kind="stable")[
                : self._steps * self._step
            ]
            together, lengths = _STEPS_SORTED * self._step, self._texts.lengths
            groups = (mixed[i : i + together] for i in range(0, len(mixed), together))
            by_length = [group[np.argsort(lengths[group], kind="stable")] for group in groups]
            steps = np.concatenate(by_length).reshape(self._steps, self._step)
            order = np.argsort(bits.random_raw(self._steps), kind="stable")
            self._order = epoch, steps[order].reshape(-1)
        return self._order[1]
