"""What is added up in chunks of a tensor, whatever blocks it comes in, as mergekit's slerp does."""

from collections.abc import Callable

import numpy as np

from entrenar_core.kernels import summing
from entrenar_core.merge.group import Group
from entrenar_core.merge.ordered import Cascaded, Order, Squares, added

CHUNK = 2**20
"""Numbers of each model that mergekit's slerp works on at a time."""


class Chunked:
    """Sums of each `CHUNK` of `size` numbers, in an order that `make` makes for so many numbers."""

    def __init__(self, size: int, make: Callable[[int], Order]) -> None:
        self._left, self._make, self._totals = size, make, []
        self._begin()
        self.width = self._order.width

    def add(self, rows: np.ndarray) -> None:
        while rows.shape[-2]:
            taken = rows[..., : self._room // self.width, :]
            self._order.add(taken)
            self._room -= taken.shape[-2] * self.width
            if not self._room:
                self._totals.append(self._order.total(np.zeros((*rows.shape[:-2], 0), np.float32)))
                self._begin()
            rows = rows[..., taken.shape[-2] :, :]

    def total(self, rest: np.ndarray) -> np.ndarray:
        """(…, chunks)"""
        last = [self._order.total(rest)] if self._room else []
        return np.stack([*self._totals, *last], axis=-1)

    def _begin(self) -> None:
        self._room = min(CHUNK, self._left)
        self._left -= self._room
        self._order = self._make(self._room)


class UnitProducts:
    """The `torch.sum` of the products x₀/l₀ · x₁/l₁ of two vectors of `size` float32 numbers."""

    width = summing.ROWS * summing.COLUMNS

    def __init__(self, size: int, lengths: np.ndarray) -> None:
        self._sum, self._lengths = Cascaded(size, as_wide=True), lengths

    def add(self, rows: np.ndarray) -> None:
        self._sum.add_groups(summing.unit_products(rows, self._lengths))

    def total(self, rest: np.ndarray) -> np.ndarray:
        first, second = rest.astype(np.float32) / self._lengths[:, None]
        return added([first * second], self._sum)


def chunked_norms(group: Group) -> np.ndarray:
    """The norms of all inputs, float32 (n,): of those of their chunks."""
    squares = [
        added(group.flat(tensor), Chunked(group.size, lambda _: Squares()))
        for tensor in group.inputs
    ]
    return np.sqrt(added([np.sqrt(np.stack(squares))], Squares()))


def chunked_cosine(group: Group, lengths: np.ndarray) -> np.float32:
    """The cosine between two inputs of such lengths (2,)."""
    order = Chunked(group.size, lambda size: UnitProducts(size, lengths))
    vectors = (block.stored.reshape(2, -1) for block in group.blocks())
    parts = added(vectors, order)
    return np.float32(added([parts], Cascaded(len(parts), as_wide=True)))
