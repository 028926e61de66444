"""What several teachers expect, each of the positions that are its own."""

from collections.abc import Sequence

import numpy as np

from entrenar_common.errors import ShapeError
from entrenar_core.autograd.ops.expected import Expected
from entrenar_core.kernels.divergences import Divergence


class Routed:
    """The opinions of teachers that each read some rows of a batch (B, T).

    owners (B, T) has the number of the teacher that a position is learned from, −1 for one without;
    rows[k] are the rows, in rising order, that teacher k has read, and parts[k] what it expects
    there. Positions of others in its rows are passed to it as ignored ones.
    """

    def __init__(self, parts: Sequence[Expected], rows: Sequence[np.ndarray], owners: np.ndarray):
        self._parts, self._rows, self._owners = tuple(parts), tuple(rows), owners
        width = owners.shape[1]
        self._positions = [(r[:, None] * width + np.arange(width)).reshape(-1) for r in rows]

    def check(self, positions: int, vocabulary: int) -> None:
        """Raise ShapeError unless it is about so many positions, and each part about its rows."""
        owners = self._owners
        if owners.size != positions or len(self._parts) != len(self._rows):
            raise ShapeError(
                f"{len(self._parts)} parts with rows for {len(self._rows)} teachers, and owners "
                f"{owners.shape} for {positions} positions",
                hint="each teacher has its rows, and each position its owner",
            )
        for number, (part, rows) in enumerate(zip(self._parts, self._rows, strict=True)):
            unread = np.setdiff1d(np.flatnonzero((owners == number).any(axis=1)), rows)
            if unread.size:
                raise ShapeError(
                    f"teacher {number} has not read row {unread[0]}, which has positions of it",
                    hint="let it read all rows that it owns positions of",
                )
            part.check(len(rows) * owners.shape[1], vocabulary)

    def compare(
        self,
        logits: np.ndarray,
        chunk: slice,
        targets: np.ndarray,
        *,
        divergence: Divergence,
        alpha: float,
        scale: float,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        owners = self._owners.reshape(-1)[chunk]
        zeros = np.zeros(len(logits), logits.dtype)
        found = zeros, zeros.copy(), zeros.copy()
        for number, part in enumerate(self._parts):
            own = owners == number
            if not own.any():
                continue
            there, its_chunk = self._places(number, chunk)
            # a copy: what is not its own is still to be compared with others
            asked = logits[there]
            values = part.compare(
                asked, its_chunk, np.where(own, targets, -1)[there],
                divergence=divergence, alpha=alpha, scale=scale,
            )  # fmt: skip
            kept = own[there]
            logits[own] = asked[kept]
            for total, value in zip(found, values, strict=True):
                total[own] = value[kept]
        logits[owners < 0] = 0
        return found

    def _places(self, number: int, chunk: slice) -> tuple[np.ndarray, slice]:
        """The positions of a chunk that a teacher has read, counted from the chunk's start, and the
        same ones as it counts them."""
        positions = self._positions[number]
        low, high = (int(n) for n in np.searchsorted(positions, [chunk.start, chunk.stop]))
        return positions[low:high] - chunk.start, slice(low, high)
