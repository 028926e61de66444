"""Matrices of integers of 8 bits, laid out for products with their transposed ones.

The sum of a product with row n runs along the row, in quads of neighbours: what processors multiply
at once. 48 rows make a panel, which holds the first quads of all its rows, then the second ones:

    k → 0 1 2 3   4 5 6 7  …                  n → 0         1        …  47
    n 0 ┌───────┬───────┬─               step 0 ┌─────────┬─────────┬───
      1 │ 0 … 3 │ 4 … 7 │                       │ 0 … 3   │ 0 … 3   │ …
      … │       │       │                  step 1 ├─────────┼─────────┼───
     47 └───────┴───────┴─                      │ 4 … 7   │ 4 … 7   │ …

So whoever multiplies by one row of numbers reads all of a matrix once, from its beginning to its
end. An integer q is stored as q + 128, since processors multiply numbers without a sign by numbers
with one.
"""

from typing import Any

import numpy as np

from entrenar_core.kernels.held import Held, Rows

COLUMNS = 48
"""Rows of a matrix in a panel: columns of what is transposed."""

QUAD = 4

ZERO = 128
"""What the integer 0 is stored as."""

ALIGNED = 64
"""Panels begin where a vector of the processor's does, at multiples of so many bytes."""


class Int8Panels(Rows):
    """A matrix of `shape` (N, K): integers from −128 to 127 times the scale of their block.

    codes: uint8 (panels, steps, COLUMNS, QUAD); scales: float32 or float16 (panels, blocks,
    COLUMNS). A row has as many blocks as there are scales of it, all of one length; numbers that
    fill up the last panel and the last quad stand for 0.
    """

    def __init__(self, shape: tuple[int, ...], codes: np.ndarray, scales: np.ndarray) -> None:
        self.shape, self.codes, self.scales = shape, codes, scales
        # to ask for an address takes as long as a small product's first rows
        self.addresses = codes.ctypes.data, scales.ctypes.data

    @property
    def nbytes(self) -> int:
        return self.codes.nbytes + self.scales.nbytes

    @property
    def blocks(self) -> int:
        """How many scales a row has."""
        return self.scales.shape[1]

    @property
    def length(self) -> int:
        """The numbers of a block, with those that fill up the last quad."""
        return self.codes.shape[1] // max(self.blocks, 1) * QUAD

    def integers(self, low: int, high: int) -> np.ndarray:
        """The integers of the rows `low` to `high`, int8 (high − low, K), C-contiguous."""
        first = low // COLUMNS
        part = self.codes[first : -(-high // COLUMNS)]
        quads = part.view(np.uint32)[..., 0].transpose(0, 2, 1)  # (panels, COLUMNS, steps)
        rows = quads.reshape(len(part) * COLUMNS, quads.shape[2])[
            low - first * COLUMNS : high - first * COLUMNS
        ]
        integers = (np.ascontiguousarray(rows).view(np.uint8) ^ ZERO).view(np.int8)
        return np.ascontiguousarray(integers[:, : self.shape[1]])

    def scales_of(self, low: int, high: int) -> np.ndarray:
        """The scales of the rows `low` to `high`, float32 (high − low, blocks)."""
        first = low // COLUMNS
        part = self.scales[first : -(-high // COLUMNS)].transpose(0, 2, 1).astype(np.float32)
        rows = part.reshape(len(part) * COLUMNS, self.blocks)
        return rows[low - first * COLUMNS : high - first * COLUMNS]

    def rows(self, low: int, high: int, out: np.ndarray) -> np.ndarray:
        integers, scales = self.integers(low, high), self.scales_of(low, high)
        np.multiply(integers, np.repeat(scales, self.length, axis=1)[:, : self.shape[1]], out=out)
        return out


def packed(codes: np.ndarray, scales: np.ndarray) -> Int8Panels:
    """Panels of integers q: `codes` has q + 128, uint8 (N, K), and `scales` is (N, blocks), float32
    or float16. Where there are several blocks, each has the same number of quads."""
    count, width = codes.shape
    panels, steps = -(-count // COLUMNS), -(-width // QUAD)
    target = _aligned(panels * steps * COLUMNS * QUAD).reshape(panels, steps, COLUMNS, QUAD)
    found = np.zeros((panels, COLUMNS, scales.shape[1]), scales.dtype)
    found.reshape(-1, scales.shape[1])[:count] = scales
    for panel in range(panels):
        rows = np.full((COLUMNS, steps * QUAD), ZERO, np.uint8)
        some = codes[panel * COLUMNS : (panel + 1) * COLUMNS]
        rows[: len(some), :width] = some
        target[panel].view(np.uint32)[..., 0] = rows.view(np.uint32).T
    return Int8Panels((count, width), target, np.ascontiguousarray(found.transpose(0, 2, 1)))


def int8_panels(b: Any, *, trans_b: bool) -> Int8Panels | None:
    """The panels of a matrix that op(b) is the transposed of; None where it has none."""
    if type(b) is Held and isinstance(b.kept, Int8Panels) and trans_b != b.transposed:
        return b.kept
    return None


def _aligned(size: int) -> np.ndarray:
    room = np.empty(size + ALIGNED, np.uint8)
    start = -room.ctypes.data % ALIGNED
    return room[start : start + size]
