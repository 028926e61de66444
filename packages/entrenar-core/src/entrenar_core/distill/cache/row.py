"""A row of a cache: what is stored of one row of token ids, and how it lies in a file.

With T tokens, K kept ids in all of them, n temperatures, and v bytes for a value (2 or 4), a row
is, without gaps and little-endian:

    tails    n·T float32   log of the probability of what is not kept, by temperature
    counts   T uint16      kept ids of each position, 0 where there is no target
    tokens   T uint16      the ids of the row, their lower 16 bits
    values   K float16/32  logit of each kept id less the highest of its position, likeliest first
    ids      K uint16      the kept ids, their lower 16 bits
    upper    (T + K) uint8 the third byte of tokens and kept ids, where ids do not fit 16 bits

so T·(4n + 4 + h) + K·(v + 2 + h) bytes, h being 1 with a third byte and 0 without.
"""

from dataclasses import dataclass

import numpy as np

from entrenar_common.errors import IntegrityError
from entrenar_core.distill.cache.settings import PRECISIONS

NARROW = 2**16
"""Ids below it fit two bytes."""


@dataclass(frozen=True)
class RowForm:
    """What all rows of a cache have in common: `tokens` T, `temperatures` n, `precision` of values,
    and whether ids have a third byte (`wide`)."""

    tokens: int
    temperatures: int
    precision: str
    wide: bool

    def size(self, kept: int) -> int:
        """The bytes of a row in which `kept` ids are."""
        upper, value = int(self.wide), np.dtype(PRECISIONS[self.precision]).itemsize
        position = 4 * self.temperatures + 4 + upper
        return self.tokens * position + kept * (value + 2 + upper)


@dataclass(frozen=True, eq=False)
class StoredRow:
    """tokens (T,) and ids (K,) int32, counts (T,) int64, values (K,) as they are stored, tails
    (n, T) float32."""

    tokens: np.ndarray
    counts: np.ndarray
    ids: np.ndarray
    values: np.ndarray
    tails: np.ndarray

    def packed(self, form: RowForm) -> bytes:
        """The row's bytes."""
        both = np.concatenate([self.tokens, self.ids])
        lower, count = (both & 0xFFFF).astype("<u2"), len(self.tokens)
        upper = (both >> 16).astype(np.uint8).tobytes() if form.wide else b""
        parts = (
            self.tails.astype("<f4"),
            self.counts.astype("<u2"),
            lower[:count],
            self.values.astype(PRECISIONS[form.precision]),
            lower[count:],
        )
        return b"".join(part.tobytes() for part in parts) + upper

    @classmethod
    def unpacked(cls, data: bytes, form: RowForm, *, where: str) -> "StoredRow":
        """The row that was packed; `where` is what it is called in an IntegrityError."""
        t, n, cursor = form.tokens, form.temperatures, _Cursor(data)
        if len(data) < form.size(0):
            raise _misfit(where, len(data), f"at least {form.size(0)}")
        tails = cursor.take("<f4", n * t).reshape(n, t)
        counts = cursor.take("<u2", t).astype(np.int64)
        kept = int(counts.sum())
        if len(data) != form.size(kept):
            raise _misfit(where, len(data), f"{form.size(kept)} with {kept} ids")
        tokens, values = cursor.take("<u2", t), cursor.take(PRECISIONS[form.precision], kept)
        both = np.concatenate([tokens, cursor.take("<u2", kept)]).astype(np.int32)
        if form.wide:
            both |= cursor.take("u1", t + kept).astype(np.int32) << 16
        return cls(both[:t], counts, both[t:], values, tails)


def _misfit(where: str, size: int, wanted: str) -> IntegrityError:
    return IntegrityError(
        f"{where}: has {size} bytes, wanted {wanted}",
        hint="the file is damaged: make the cache again",
    )


class _Cursor:
    """Takes arrays from the beginning of bytes, one after the other."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def take(self, dtype: str, count: int) -> np.ndarray:
        found = np.frombuffer(self._data, dtype, count, self._at)
        self._at += found.nbytes
        return found
