"""Matrices that are kept in fewer bits than float32, and widened a part at a time where they are
used: there is never a float32 copy of a whole one."""

from abc import ABC, abstractmethod
from typing import Any

import numpy as np


class Rows(ABC):
    """A matrix of `shape` (M, N) that can give its rows as float32, `nbytes` long as it is kept."""

    shape: tuple[int, ...]

    @property
    @abstractmethod
    def nbytes(self) -> int:
        """The bytes of all that is kept."""

    @abstractmethod
    def rows(self, low: int, high: int, out: np.ndarray) -> np.ndarray:
        """Rows `low` to `high` in `out` (high − low, N), C-contiguous float32; returns it."""

    def gathered(self, ids: np.ndarray) -> np.ndarray:
        """The rows with the numbers `ids` (I,), float32 (I, N)."""
        out = np.empty((len(ids), self.shape[1]), np.float32)
        for place, row in enumerate(ids.tolist()):
            self.rows(row, row + 1, out[place : place + 1])
        return out


class Held:
    """A matrix as the frozen weight of a model: in few bits, and float32 to those that compute.

    `kept` has its rows, or, where it is `transposed`, its columns. It takes the place of an array
    in `Tensor.data`, and kernels take it as a second operand or table; everything else gets a
    float32 copy of it through `numpy.asarray`.
    """

    dtype = np.dtype(np.float32)
    ndim = 2

    def __init__(self, kept: Rows, *, transposed: bool = False) -> None:
        if len(kept.shape) != 2:
            raise ValueError(f"a matrix is held, and not an array of shape {kept.shape}")
        self.kept, self.transposed = kept, transposed

    @property
    def shape(self) -> tuple[int, ...]:
        return self.kept.shape[::-1] if self.transposed else self.kept.shape

    @property
    def size(self) -> int:
        """The number of elements."""
        return self.shape[0] * self.shape[1]

    @property
    def nbytes(self) -> int:
        """The bytes of what is kept, scales included."""
        return self.kept.nbytes

    @property
    def T(self) -> "Held":
        """The transposed matrix, of the same memory."""
        return Held(self.kept, transposed=not self.transposed)

    def __len__(self) -> int:
        return self.shape[0]

    def __repr__(self) -> str:
        return f"Held({type(self.kept).__name__} {self.shape}, {self.nbytes} bytes)"

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        if copy is False:
            raise ValueError("the numbers of a matrix in few bits are always a copy")
        whole = self.kept.rows(0, self.kept.shape[0], np.empty(self.kept.shape, np.float32))
        return np.asarray(whole.T if self.transposed else whole, dtype)

    def astype(self, dtype: Any) -> np.ndarray:
        """All of it as an array of `dtype`."""
        return np.asarray(self, dtype)

    def gathered(self, ids: np.ndarray) -> np.ndarray:
        """The rows with the numbers `ids` (N,), float32."""
        if self.transposed:
            return np.ascontiguousarray(np.asarray(self)[ids])
        return self.kept.gathered(ids)
