"""Numbers added up in float32, in the order in which torch adds them on a CPU.

torch's partial sums are float32, those of numbers of half precision too, and rounded once to the
type of the numbers. Which of them there are is the same in its kernels for AVX2 and for AVX-512:
they have vectors of 8. With several threads it adds each thread's part by itself, and rounds its
sum; what is here is what one thread does, and the size of blocks does not change it.
"""

from collections.abc import Iterable
from typing import Protocol

import numpy as np

from entrenar_core.kernels import summing
from entrenar_core.merge.cascade import Cascade, in_order

VECTOR = 8
CHAINS = 4
"""Sums that torch's processor adds to at once."""


class Order(Protocol):
    """An order of adding numbers up, of which it gets `width` or a multiple of it at a time."""

    width: int

    def add(self, rows: np.ndarray) -> None:
        """Some more numbers, (…, k, width)."""
        ...

    def total(self, rest: np.ndarray) -> np.ndarray:
        """The sums (…) of all of them and the last (…, fewer than width)."""
        ...


def added(parts: Iterable[np.ndarray], order: Order) -> np.ndarray:
    """The sums (…) of the numbers of all `parts` (…, any number)."""
    rest = np.zeros(0, np.float32)
    for part in parts:
        numbers = np.concatenate([rest, part], axis=-1) if rest.size else part
        whole = numbers.shape[-1] // order.width * order.width
        if whole:
            rows = np.ascontiguousarray(numbers[..., :whole])
            order.add(rows.reshape(*rows.shape[:-1], -1, order.width))
        rest = numbers[..., whole:].copy()
    return order.total(rest)


class OneByOne:
    """Each number after the one before it, as in norms of float16 and of columns."""

    width = 1

    def __init__(self) -> None:
        self._sum = np.zeros(1, np.float32)

    def add(self, rows: np.ndarray) -> None:
        self._sum = in_order(self._sum, rows)

    def total(self, rest: np.ndarray) -> np.ndarray:
        return _in_turn(self._sum, rest)


class Lanes:
    """Every eighth number, and then the eight sums, as squares in norms of bfloat16; what fills no
    vector of 16 comes last."""

    width = 2 * VECTOR

    def __init__(self) -> None:
        self._sums = np.zeros(VECTOR, np.float32)

    def add(self, rows: np.ndarray) -> None:
        self._sums = in_order(self._sums, rows.reshape(*rows.shape[:-2], -1, VECTOR))

    def total(self, rest: np.ndarray) -> np.ndarray:
        return _in_turn(self._sums, rest)


class Squares:
    """The squares of float32 numbers, as in their norms: as in `Lanes`, of vectors of 8. Of the
    last numbers four are squared at once; those after them are squared and added in one step, which
    is rounded once."""

    width = VECTOR

    def __init__(self) -> None:
        self._sums = np.zeros(VECTOR, np.float32)

    def add(self, rows: np.ndarray) -> None:
        lead = rows.shape[:-2]
        before = np.broadcast_to(self._sums, (*lead, VECTOR)).reshape(-1, VECTOR)
        found = summing.add_squares(rows.reshape(-1, *rows.shape[-2:]), before)
        self._sums = found.reshape(*lead, VECTOR)

    def total(self, rest: np.ndarray) -> np.ndarray:
        rest = rest.astype(np.float32)
        four = rest.shape[-1] // 4 * 4
        found = _in_turn(self._sums, np.square(rest[..., :four]))
        for last in np.moveaxis(rest[..., four:], -1, 0):
            found = (np.square(last, dtype=np.float64) + found).astype(np.float32)
        return found


class Cascaded:
    """`torch.sum` of `size` numbers that lie side by side: a cascade of four vectors of sums; what
    fills no vector comes first. A vector is of two numbers of half precision each, or (`as_wide`)
    of one float32."""

    def __init__(self, size: int, *, as_wide: bool = False) -> None:
        vector = VECTOR if as_wide else 2 * VECTOR
        self._vector, self._lanes = (vector, VECTOR) if size >= vector else (1, 1)
        self.width = CHAINS * self._vector
        self._cascade = Cascade(size // self.width)

    def add(self, rows: np.ndarray) -> None:
        vectors = self._loaded(rows.reshape(*rows.shape[:-1], CHAINS, self._vector))
        self._cascade.add(vectors.reshape(*rows.shape[:-1], -1))

    def add_groups(self, sums: np.ndarray) -> None:
        """As `Cascade.add_groups`, of rows of `width` numbers."""
        self._cascade.add_groups(sums)

    def total(self, rest: np.ndarray) -> np.ndarray:
        lead, whole = rest.shape[:-1], rest.shape[-1] // self._vector * self._vector
        sums = self._cascade.total()
        chains = np.broadcast_to(sums, (*lead, CHAINS * self._lanes)).reshape(*lead, CHAINS, -1)
        vectors = self._loaded(rest[..., :whole].reshape(*lead, -1, self._vector))
        order = [chains[..., :1, :], vectors, chains[..., 1:, :]]
        found = in_order(np.zeros(1, np.float32), np.concatenate(order, axis=-2))
        return _in_turn(rest[..., whole:], found)

    def _loaded(self, vectors: np.ndarray) -> np.ndarray:
        """(…, vector) as (…, lanes)."""
        if self._vector == self._lanes:
            return vectors
        return vectors[..., :VECTOR] + vectors[..., VECTOR:]


class CascadedColumns:
    """`torch.sum` of each of many columns of `size` numbers: a cascade; of the last columns, which
    fill no four vectors, four cascades each. Columns that fill no vector of the type, which has 16
    numbers of half precision or (`as_wide`) 8 of float32, are taken four at a time."""

    width = CHAINS

    def __init__(self, size: int, columns: int, *, as_wide: bool = False) -> None:
        vector = VECTOR if as_wide else 2 * VECTOR
        together = CHAINS * VECTOR if columns >= vector else CHAINS
        self._most = columns // together * together
        self._cascade = Cascade(size)
        self._others = Cascade(size // CHAINS)

    def add(self, rows: np.ndarray) -> None:
        """(…, columns, k, 4)"""
        self._add_to_most(rows.reshape(*rows.shape[:-2], -1))
        others = rows[..., self._most :, :, :].swapaxes(-3, -2)  # (…, k, others, 4)
        self._others.add(others.reshape(*others.shape[:-2], -1))

    def total(self, rest: np.ndarray) -> np.ndarray:
        """(…, columns)"""
        self._add_to_most(rest)
        most, others = self._cascade.total(), rest[..., self._most :, :]
        lead = others.shape[:-1]
        chains = np.broadcast_to(self._others.total(), (*lead[:-1], lead[-1] * CHAINS))
        chains = chains.reshape(*lead, CHAINS)
        last = _in_turn(np.concatenate([chains[..., :1], others], axis=-1), chains[..., 1:])
        return np.concatenate([np.broadcast_to(most, (*lead[:-1], self._most)), last], axis=-1)

    def _add_to_most(self, numbers: np.ndarray) -> None:
        rows = numbers[..., : self._most, :].swapaxes(-1, -2)
        if rows.size:
            self._cascade.add(np.ascontiguousarray(rows))


class Dot:
    """`torch.dot` of half precision, of the products of two vectors: every 64th, and then these
    sums in pairs; of the last vectors every eighth; what fills no vector comes last."""

    width = 8 * VECTOR

    def __init__(self) -> None:
        self._sums = np.zeros(self.width, np.float32)

    def add(self, rows: np.ndarray) -> None:
        self._sums = in_order(self._sums, rows)

    def total(self, rest: np.ndarray) -> np.ndarray:
        lead, whole = rest.shape[:-1], rest.shape[-1] // (2 * VECTOR) * 2 * VECTOR
        found = np.broadcast_to(_in_pairs(self._sums), lead)
        if whole:
            last = rest[..., :whole].reshape(*lead, -1, VECTOR)
            found = found + _in_pairs(in_order(np.zeros(VECTOR, np.float32), last))
        return _in_turn(found[..., None], rest[..., whole:])


class WideDot:
    """`torch.dot` of float32, of the products of two vectors: every 16th; of the last numbers eight
    and then four, each with those that it has as many of, and the others with the first. Of these
    sums those four further on are added to the first four, and then two further on.

    It is what MKL does on processors that are not Intel's, of vectors that begin at an address that
    is a multiple of 16; on others it has longer vectors.
    """

    width = 2 * VECTOR

    def __init__(self) -> None:
        self._sums = np.zeros(self.width, np.float32)

    def add(self, rows: np.ndarray) -> None:
        self._sums = in_order(self._sums, rows)

    def total(self, rest: np.ndarray) -> np.ndarray:
        sums = np.broadcast_to(self._sums, (*rest.shape[:-1], self.width)).copy()
        first = 0
        for count in (8, 4, 1, 1, 1):
            if rest.shape[-1] - first >= count:
                sums[..., :count] += rest[..., first : first + count]
                first += count
        quarters = sums.reshape(*rest.shape[:-1], 4, 4)
        return _in_pairs(in_order(quarters[..., 0, :], quarters[..., 1:, :]))


def _in_turn(first: np.ndarray, then: np.ndarray) -> np.ndarray:
    """The sums (…) of the numbers of `first` (…, n) and after them those of `then` (…, m)."""
    lead = np.broadcast_shapes(first.shape[:-1], then.shape[:-1])
    both = [np.broadcast_to(x, (*lead, x.shape[-1])) for x in (first, then)]
    return in_order(np.zeros(1, np.float32), np.concatenate(both, axis=-1)[..., None])[..., 0]


def _in_pairs(sums: np.ndarray) -> np.ndarray:
    """Of the sums (…, 2ⁿ) each with that which is half of them further on, until there is one."""
    while sums.shape[-1] > 1:
        half = sums.shape[-1] // 2
        sums = sums[..., :half] + sums[..., half:]
    return sums[..., 0]
