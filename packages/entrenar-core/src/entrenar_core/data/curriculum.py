"""Batches of easy rows first: the share of the rows that they are drawn from grows with the steps.

Source: Platanios et al. 2019, arXiv:1903.09848, whose square-root competence this is.
"""

import math
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from entrenar_common.errors import ConfigError, NumericsError, ShapeError
from entrenar_core.data.batches import epoch_order
from entrenar_core.rng import stream

__all__ = ["Curriculum", "CurriculumBatches", "Gathered", "competence"]

Int64 = npt.NDArray[np.int64]


class Gathered(Protocol):
    """Rows that can be had by their numbers, such as those of `Batches` and `ArrayBatches`."""

    rows: int
    batch_size: int

    def gather(self, row_ids: Any) -> Any:
        """A batch of the rows of these numbers, in this order."""
        ...

    def names(self, row_ids: Any) -> list[str]:
        """What the rows are made of, for people."""
        ...


def competence(step: int, *, start: float, steps: int) -> float:
    """The share of the rows, the easiest ones, that are drawn from at an optimizer step: c(t) =
    min(1, √(t·(1 − c₀²)/T + c₀²)), with c₀ = `start` and T = `steps`.

    >>> [round(competence(step, start=0.6, steps=10), 3) for step in (0, 5, 10, 11)]
    [0.6, 0.825, 1.0, 1.0]
    """
    if step >= steps:
        return 1.0
    return min(1.0, math.sqrt(step * (1 - start**2) / steps + start**2))


class Curriculum:
    """When how much of the rows is in play: from the share `start_share` at step 0 to all of them
    from step `steps` on. Raises ConfigError for a share outside (0, 1] and for less than one step.
    """

    def __init__(self, *, start_share: float, steps: int):
        if not 0 < start_share <= 1:
            raise ConfigError(
                f"a curriculum that starts with a share of {start_share:g} of the rows",
                hint="use more than 0, and at most 1",
            )
        if steps < 1:
            raise ConfigError(
                f"a curriculum of {steps} steps", hint="use 1 or more, such as a third of the run"
            )
        self.start_share, self.steps = start_share, steps

    def count(self, step: int, rows: int, *, least: int) -> int:
        """How many of `rows` are drawn from at `step`: never fewer than `least`."""
        share = competence(step, start=self.start_share, steps=self.steps)
        return min(rows, max(least, math.floor(share * rows)))


class CurriculumBatches:
    """Batches of the rows of `source`, drawn from those with the least `difficulty` (rows,).

    Before the last step of `curriculum`, a batch is drawn from the easiest rows without repetition,
    each batch for itself. From then on every epoch has every row at most once, in the order that
    `Batches` with this seed have, at the positions that they would have reached. Among equal
    difficulties chance decides once which rows are the easier ones. A batch is a function of seed
    and position; `accumulation` batches are one optimizer step.

    Raises ShapeError for another number of difficulties than rows, NumericsError for one that is
    not finite, ConfigError where the rows do not make one batch.

    >>> from entrenar_core.data.array_batches import ArrayBatches
    >>> rows = ArrayBatches(np.arange(8.0)[:, None], np.arange(8), batch_size=2)
    >>> plan = Curriculum(start_share=0.25, steps=100)
    >>> easy = CurriculumBatches(rows, np.arange(8)[::-1], plan, seed=0)
    >>> sorted(easy.batch(0).wanted.tolist())
    [6, 7]
    """

    def __init__(
        self,
        source: Gathered,
        difficulty: npt.NDArray[Any],
        curriculum: Curriculum,
        *,
        seed: int,
        accumulation: int = 1,
    ):
        found = np.asarray(difficulty, np.float64)
        if found.shape != (source.rows,):
            raise ShapeError(
                f"difficulties {found.shape} of {source.rows} rows", hint="give one for each row"
            )
        if not np.isfinite(found).all():
            row = int(np.argmin(np.isfinite(found)))
            raise NumericsError(
                f"row {row}, of {', '.join(source.names(np.array([row])))}: its difficulty is "
                f"{found[row]}",
                hint="give every row a number",
            )
        if not 1 <= source.batch_size <= source.rows:
            raise ConfigError(
                f"batch_size {source.batch_size} of {source.rows} rows",
                hint="it is at least 1, and at most the number of rows",
            )
        self.source, self.curriculum, self.accumulation = source, curriculum, accumulation
        self.rows, self.batch_size = source.rows, source.batch_size
        self.steps_per_epoch = self.rows // self.batch_size
        self._seed = seed
        chance = stream(seed, "curriculum ties").bit_generator.random_raw(self.rows)
        self._easiest_first = np.lexsort((chance, found))
        self._order: tuple[int, Int64] | None = None

    def batch(self, position: int) -> Any:
        """The batch at `position`, the same in every process and in any order of calls."""
        if position < 0:
            raise ConfigError(f"batch position {position} is negative", hint="positions start at 0")
        return self.source.gather(self.row_ids(position))

    def row_ids(self, position: int) -> Int64:
        """The numbers (batch_size,) of the rows of the batch at `position`."""
        step = position // self.accumulation
        if step >= self.curriculum.steps:
            return self._of_epoch(position)
        count = self.curriculum.count(step, self.rows, least=self.batch_size)
        bits = stream(self._seed, "curriculum", position).bit_generator
        return self._easiest_first[_drawn(bits.random_raw(self.batch_size), count)]

    def gather(self, row_ids: Any) -> Any:
        """The rows of these numbers, in this order."""
        return self.source.gather(row_ids)

    def names(self, row_ids: Any) -> list[str]:
        """What the rows are made of, for people."""
        return self.source.names(row_ids)

    def _of_epoch(self, position: int) -> Int64:
        epoch, place = divmod(position, self.steps_per_epoch)
        if self._order is None or self._order[0] != epoch:
            self._order = epoch, epoch_order(self.rows, self._seed, epoch)
        start = place * self.batch_size
        return self._order[1][start : start + self.batch_size]


def _drawn(bits: npt.NDArray[np.uint64], count: int) -> Int64:
    """As many different numbers below `count` as there are `bits`, every set of them as likely.

    Robert Floyd's way (Bentley 1987, Programming Pearls: a sample of brilliance), which takes one
    draw for each. Raw bits are the same in every version of numpy.
    """
    found: dict[int, None] = {}
    for last, raw in enumerate(bits.tolist(), count - len(bits)):
        one = raw % (last + 1)
        found[last if one in found else one] = None
    return np.fromiter(found, np.int64, len(found))
