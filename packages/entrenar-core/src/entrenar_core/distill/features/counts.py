"""How many tokens, sequences and pairs of tokens an optimizer step has: what losses divide by."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import zip_longest

import numpy as np

from entrenar_core.distill.features.arithmetic import sequences


@dataclass(frozen=True)
class Counts:
    """The positions that count in all micro-batches of an optimizer step: masks (B, T) of booleans.

    `documents` (B, T) of each say where a row is not one sequence but has several: see `sequences`.
    Each count is at least 1, so that a step in which nothing counts has a loss of 0.
    """

    masks: tuple[np.ndarray, ...]
    documents: tuple[np.ndarray | None, ...] = ()

    @property
    def tokens(self) -> int:
        """The positions that count."""
        return max(1, sum(int(np.count_nonzero(mask)) for mask in self.masks))

    @property
    def sequences(self) -> int:
        """The sequences in which at least one position counts."""
        return max(1, sum(1 for _ in self._rows()))

    def pairs(self, *, causal: bool, window: int | None) -> int:
        """The queries and keys that both count, where the query sees the key."""
        return max(1, sum(_seen_count(np.flatnonzero(r), causal, window) for r in self._rows()))

    def _rows(self) -> Iterator[np.ndarray]:
        """The positions that count of each sequence in which there are any, (T,) booleans."""
        for mask, documents in zip_longest(self.masks, self.documents):
            yield from (row for _, row in sequences(mask, documents))


def seen(places: np.ndarray, *, causal: bool, window: int | None) -> np.ndarray:
    """Booleans (n, n): whether the query at `places[i]` (n,) sees the key at `places[j]`."""
    behind = places[:, None] - places[None, :]
    found = np.ones(behind.shape, bool)
    if causal:
        found &= behind >= 0
    if window is not None:
        found &= behind < window
    return found


def _seen_count(places: np.ndarray, causal: bool, window: int | None) -> int:
    """How many of `seen` are true, without the matrix. `places` rise."""
    ends = np.arange(1, len(places) + 1) if causal else np.full(len(places), len(places))
    if window is not None:
        ends = ends - np.searchsorted(places, places - window, side="right")
    return int(ends.sum())


def narrower(windows: Iterable[int | None]) -> int | None:
    """The smallest of some windows, None where there is none."""
    return min((window for window in windows if window is not None), default=None)
