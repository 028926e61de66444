"""How the numbers of two tensors differ: read in pieces, each looked at once."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from entrenar_core.kernels import Held, comparing, is_narrow, widen
from entrenar_core.quant import BlockArray

PIECE = 1 << 20
"""Elements that are looked at at once: 4 MiB where they have to be widened."""

SMALL_PIECE = 1 << 15
"""The same for numpy, whose steps in between then stay in the caches."""

FEW = 1 << 24
"""Elements of both models together up to which numpy alone is done before compiled code is
loaded."""

Kernel = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class Difference:
    """How b differs from a.

    identical: whether all bytes are the same, and then nothing else was looked at. norm_a, norm_b,
    distance: ‖a‖, ‖b‖, ‖b − a‖ over the elements that are finite in both, None for identical ones;
    relative: distance / ‖a‖, infinite for a = 0; cosine: None where one norm is 0; largest: the
    largest |b − a|, and `at`: where it is first; unequal: elements that are not equal, NaN being
    equal to NaN; unlike: those among them of which one is not finite; sqnr_db: where one side is in
    few bits, 10·log10 of ‖x‖² / ‖b − a‖² with x the other; pattern: what b is of a, in words;
    problem: why there are no figures.
    """

    identical: bool
    relative: float = 0.0
    cosine: float | None = 1.0
    largest: float = 0.0
    at: tuple[int, ...] | None = None
    unequal: int = 0
    unlike: int = 0
    norm_a: float | None = None
    norm_b: float | None = None
    distance: float = 0.0
    sqnr_db: float | None = None
    pattern: str | None = None
    problem: str | None = None

    @property
    def equal(self) -> bool:
        """Whether every number is the same, however it is stored."""
        return self.problem is None and (self.identical or self.unequal == 0)


class Numbers:
    """The numbers of a tensor, some of them at a time.

    `stored` is an array, or what is in blocks, of which whole rows of `step` elements are read as
    float32. A complex number is two, along one more axis.
    """

    def __init__(self, stored: Any) -> None:
        self.stored = stored
        self.in_blocks = not isinstance(stored, np.ndarray)
        if isinstance(stored, Held) and stored.transposed:
            stored = np.asarray(stored)  # its rows are spread over all blocks
        if isinstance(stored, np.ndarray) and stored.dtype.kind == "c":
            stored = stored.reshape(*stored.shape, 1).view(stored.real.dtype)
        self.shape: tuple[int, ...] = tuple(stored.shape)
        self.size = prod(self.shape)
        self._flat = stored.reshape(-1) if isinstance(stored, np.ndarray) else None
        kept = stored.kept if isinstance(stored, Held) else stored
        self._rows = None if self._flat is not None else _as_matrix(kept)
        self.dtype = np.dtype(np.float32) if self._flat is None else self._flat.dtype
        self.step = 1 if self._rows is None else max(self._rows.shape[1], 1)

    def piece(self, low: int, high: int) -> np.ndarray:
        """Elements `low` to `high`, which are multiples of `step`, as they are or as float32."""
        if self._flat is not None:
            return self._flat[low:high]
        assert self._rows is not None
        out = np.empty(((high - low) // self.step, self.step), np.float32)
        return self._rows.rows(low // self.step, high // self.step, out).reshape(-1)


def _as_matrix(stored: Any) -> Any:
    """What is stored in blocks as a matrix of its rows."""
    if not isinstance(stored, BlockArray) or len(stored.shape) == 2:
        return stored
    columns = stored.shape[-1] if stored.shape else 1
    rows = prod(stored.shape[:-1])
    return BlockArray(stored.form, (rows, columns), stored.data.reshape(rows, -1))


def same_bytes(a: Any, b: Any) -> bool:
    """Whether two tensors of equal shape are stored as the same bytes."""
    if isinstance(a, BlockArray) and isinstance(b, BlockArray):
        return a.form == b.form and same_bytes(a.data, b.data)
    if not (isinstance(a, np.ndarray) and isinstance(b, np.ndarray)) or a.dtype != b.dtype:
        return False
    x, y = (np.ascontiguousarray(each).reshape(-1).view(np.uint8) for each in (a, b))
    whole = x.size // 8 * 8
    if not np.array_equal(x[whole:], y[whole:]):
        return False
    x, y = x[:whole].view(np.uint64), y[:whole].view(np.uint64)
    step = SMALL_PIECE
    return all(np.array_equal(x[i : i + step], y[i : i + step]) for i in range(0, x.size, step))


def kernel_for(elements: int) -> tuple[Kernel, int]:
    """What adds up the differences of so many elements the soonest, and how many it takes."""
    if elements <= FEW:
        return comparing.differences.reference, SMALL_PIECE
    return comparing.differences, PIECE


def difference(a: Numbers, b: Numbers, kernel: Kernel, piece: int) -> Difference:
    """How the numbers of `b` differ from those of `a`, which has the same shape.

    Raises UnsupportedError for a type of block that cannot be read.
    """
    sums, unequal, unlike = np.zeros(4), 0, 0
    largest, at = 0.0, None
    kind = _common(a.dtype, b.dtype)
    for low, high in pieces(a, b, piece):
        stored = a.piece(low, high), b.piece(low, high)
        x, y = (_as(each, kind) for each in stored)
        found, counts = kernel(x, y)
        sums += found
        unequal, unlike, index = unequal + int(counts[0]), unlike + int(counts[1]), int(counts[2])
        if all(each.dtype.kind in "iu" for each in stored):  # float64 ends at 2⁵³
            unequal += int(np.count_nonzero(stored[0] != stored[1])) - int(counts[0])
        change = abs(float(y[index]) - float(x[index]))
        if change > largest and math.isfinite(change):
            largest, at = change, low + index
    return _figures(sums, unequal, unlike, largest, _place(at, a), _signal(sums, a, b))


def pieces(a: Numbers, b: Numbers, most: int) -> Iterator[tuple[int, int]]:
    """The first and the last but one element of pieces of about `most`, none of an empty tensor."""
    step = max(a.step, b.step)
    whole = max(most // step, 1) * step
    return ((low, min(low + whole, a.size)) for low in range(0, a.size, whole))


def _common(a: np.dtype, b: np.dtype) -> np.dtype:
    """The type in which numbers of both are compared, which has all of them but large integers."""
    if a == b and (a.name in ("bfloat16", "float16", "float32", "float64")):
        return a
    wide = any(each.kind in "biu" or each == np.float64 for each in (a, b))
    return np.dtype(np.float64 if wide else np.float32)


def _as(array: np.ndarray, kind: np.dtype) -> np.ndarray:
    if array.dtype == kind:
        return array
    if is_narrow(array) and kind == np.float32 and array.size > SMALL_PIECE:
        return widen(array.reshape(1, -1))[0]
    return array.astype(kind)


def _place(at: int | None, a: Numbers) -> tuple[int, ...] | None:
    return None if at is None else tuple(int(i) for i in np.unravel_index(at, a.shape))


def _signal(sums: np.ndarray, a: Numbers, b: Numbers) -> float | None:
    """The squares of the side that the other, in few bits, stands for; None where none is."""
    if not (a.in_blocks or b.in_blocks):
        return None
    return float(sums[0] if b.in_blocks else sums[1])


def _figures(
    sums: np.ndarray, unequal: int, unlike: int, largest: float, at: Any, signal: float | None
) -> Difference:
    aa, bb, ab, dd = map(float, sums)
    norm_a, norm_b, distance = math.sqrt(aa), math.sqrt(bb), math.sqrt(dd)
    cosine = None if not aa or not bb else max(-1.0, min(1.0, ab / (norm_a * norm_b)))
    return Difference(
        False, ratio(distance, norm_a), cosine, largest, at, unequal, unlike, norm_a, norm_b,
        distance, None if signal is None else _decibels(signal, dd),
    )  # fmt: skip


def ratio(distance: float, norm: float) -> float:
    """‖b − a‖ / ‖a‖: 0 for no distance, infinite from 0."""
    return distance / norm if norm else (math.inf if distance else 0.0)


def _decibels(signal: float, noise: float) -> float:
    if not noise:
        return math.inf
    return 10 * math.log10(signal / noise) if signal else -math.inf
