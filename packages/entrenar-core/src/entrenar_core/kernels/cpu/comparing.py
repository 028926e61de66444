"""`kernels.comparing` in partial sums of pieces, which the number of threads does not change."""

import numba
import numpy as np
from numba.core import types
from numba.extending import overload

from entrenar_core.kernels.cpu.arrays import (
    PLAN,
    doubles,
    floats,
    halves,
    shorts,
    threads_for,
    told,
    wholes,
)
from entrenar_core.kernels.cpu.compile import F, inner, jit
from entrenar_core.kernels.cpu.crew import Crew
from entrenar_core.kernels.cpu.narrow import (
    BFLOAT16,
    FLOAT16,
    FLOAT32,
    numbers_at,
    wide_bfloat16,
    wide_float16,
)
from entrenar_core.kernels.cpu.threads import BLOCK, share_out
from entrenar_core.kernels.cpu.vectors import carray
from entrenar_core.kernels.registry import override

CHUNK = 1024
"""Elements whose products are added up in float32."""


@inner
def _sum_of_magnitudes(x):
    total = 0.0
    for j in range(x.size):
        total += np.float64(abs(x[j]))
    return total


@inner
def _magnitudes_of_pieces(first, last, x, parts):
    pieces = parts.shape[1]
    for piece in range(first, last):
        row, number = piece // pieces, piece % pieces
        part = x[row, number * BLOCK : number * BLOCK + BLOCK]
        parts[row, number] = _sum_of_magnitudes(part)


@jit
def _magnitudes(x, parts):
    share_out(_magnitudes_of_pieces, parts.size, x.size, (x, parts))


@override("comparing.magnitudes", "float32")
def magnitudes(x):
    parts = np.empty((len(x), (x.shape[1] + BLOCK - 1) // BLOCK))
    _magnitudes(x, parts)
    return parts.sum(1)


def _whole(lower):
    """A symmetric matrix of which only the lower half is there."""
    return lower + np.tril(lower, -1).T


@inner
def _short_product(a, b, size):
    """In float32: for so few elements that it makes no difference to people."""
    total = F(0)
    for j in range(size):
        total += a[j] * b[j]
    return total


@inner
def _difference(x, y, out):
    for j in range(x.size):
        out[j] = x[j] - y[j]


@inner
def _products(changes, change, base, at, found):
    # rows are cut one by one: of columns of a matrix nobody knows that they lie side by side
    n, origin = len(changes), base[at]
    for i in range(n):
        row = changes[i, at]
        for k in range(i + 1):
            found[i, k] += _short_product(row, changes[k, at], row.size)
        found[n, i] += _short_product(row, change, row.size)
        found[n + 1, i] += _short_product(row, origin, row.size)
    found[n, n] += _short_product(change, change, origin.size)
    found[n + 1, n] += _short_product(change, origin, origin.size)
    found[n + 1, n + 1] += _short_product(origin, origin, origin.size)


@inner
def _disagreements(changes, at, room):
    up, down = room[0], room[1]
    for j in range(CHUNK):
        up[j] = down[j] = 0
    for i in range(len(changes)):
        row = changes[i, at]
        for j in range(row.size):
            up[j] |= np.uint8(row[j] > F(0))
            down[j] |= np.uint8(row[j] < F(0))
    count = np.int32(0)
    for j in range(CHUNK):
        count += np.int32(up[j] & down[j])
    return count


def _compare(pointer, thread):
    plan = carray(pointer, (PLAN,))
    n, size, threads, pieces = plan[0], plan[1], plan[2], plan[3]
    changes, base = floats(plan[4], n, size), floats(plan[5], 1, size)[0]
    merged, conflicts = floats(plan[6], 1, size)[0], wholes(plan[8], 1, pieces)[0]
    parts = doubles(plan[7], pieces * (n + 2), n + 2)
    change, room = np.empty(CHUNK, np.float32), np.empty((2, CHUNK), np.uint8)
    for piece in range(thread, pieces, threads):
        found = parts[piece * (n + 2) : (piece + 1) * (n + 2)]
        for first in range(piece * BLOCK, min(piece * BLOCK + BLOCK, size), CHUNK):
            at = slice(first, min(first + CHUNK, size))
            _difference(merged[at], base[at], change)
            _products(changes, change, base, at, found)
            conflicts[piece] += _disagreements(changes, at, room)


_share_compare = Crew(_compare)


@override("comparing.compare", "float32")
def compare(changes, base, merged):
    n, size = changes.shape
    changes, base, merged = map(np.ascontiguousarray, (changes, base, merged))
    pieces, threads = (size + BLOCK - 1) // BLOCK, threads_for(size)
    parts, conflicts = np.zeros((pieces, n + 2, n + 2)), np.zeros(pieces, np.int64)
    plan = told(n, size, threads, pieces, changes, base, merged, parts, conflicts)
    _share_compare(plan, threads)
    return _whole(parts.sum(0)), int(conflicts.sum())


SHARE = 64 * CHUNK
"""Elements whose differences one thread adds up."""

WIDTHS = 4, 2, 2
"""Bytes of a number of each kind."""

LEAST = F(1e-28)
"""A sum of squares from which on those that are too small for float32 make no difference to it."""


def _number(stored):
    """The float32 that an element stands for: a float32, the bits of a bfloat16 as uint16, or those
    of a float16 as int16."""
    return _NUMBERS[numba.typeof(stored)](stored)  # where nothing is compiled


@overload(_number)
def _number_of(stored):
    return _NUMBERS.get(stored)


_NUMBERS = {
    types.float32: lambda stored: stored,
    types.uint16: lambda stored: wide_bfloat16(stored),
    types.int16: lambda stored: wide_float16(np.uint16(stored)),
}


@inner
def _chunk(a, b):
    """Sums and counts of some elements in float32, and the bits of the largest |b − a|. Bits are
    ordered as the numbers are; their maximum, unlike that of floats, is taken by vectors."""
    aa, bb, ab, dd = F(0), F(0), F(0), F(0)
    unequal, largest = np.int32(0), np.int32(0)
    for j in range(a.size):
        x, y = F(_number(a[j])), F(_number(b[j]))
        change = F(y - x)
        aa += x * x
        bb += y * y
        ab += x * y
        dd += change * change
        bits = np.int32(change.view(np.int32) & np.int32(0x7FFFFFFF))
        unequal = np.int32(unequal + np.int32(bits != np.int32(0)))
        largest = np.int32(max(largest, bits))
    return aa, bb, ab, dd, unequal, largest


@inner
def _chunk_at(plan, first, count):
    """`_chunk` of so many elements of what the plan tells of."""
    kind = plan[3]
    a, b = plan[4] + WIDTHS[kind] * first, plan[5] + WIDTHS[kind] * first
    if kind == FLOAT32:
        return _chunk(floats(a, 1, count)[0], floats(b, 1, count)[0])
    if kind == BFLOAT16:
        return _chunk(halves(a, 1, count)[0], halves(b, 1, count)[0])
    return _chunk(shorts(a, 1, count)[0], shorts(b, 1, count)[0])


@inner
def _numbers_at(plan, first, count, rooms):
    """So many elements of both as float32 numbers, those of narrow types in the rooms."""
    kind = plan[3]
    a = numbers_at(plan[4], kind, first, count, rooms[0])
    b = numbers_at(plan[5], kind, first, count, rooms[1])
    return a, b


@inner
def _index(a, b, largest):
    for j in range(a.size):
        change = F(b[j] - a[j])
        if np.int32(change.view(np.int32) & np.int32(0x7FFFFFFF)) == largest:
            return j
    return 0


@inner
def _is_finite(number):
    # a comparison: LLVM takes the arithmetic in isfinite for one whose result it knows
    return (F(number).view(np.int32) & np.int32(0x7F800000)) != np.int32(0x7F800000)


@inner
def _one_by_one(a, b, first, sums, counts):
    """A chunk with numbers that are not finite, or whose squares float32 does not hold. Returns
    whether the largest difference until now is there."""
    before = counts[2]
    for j in range(a.size):
        x, y = a[j], b[j]
        if _is_finite(x) and _is_finite(y):
            sums[0] += np.float64(x) * np.float64(x)
            sums[1] += np.float64(y) * np.float64(y)
            sums[2] += np.float64(x) * np.float64(y)
            change = np.float64(y) - np.float64(x)
            sums[3] += change * change
            counts[0] += np.int64(x != y)
            bits = np.int32(F(y - x).view(np.int32) & np.int32(0x7FFFFFFF))
            if bits > counts[2]:
                counts[2], counts[3] = bits, first + j
        elif x != y and not (np.isnan(x) and np.isnan(y)):
            counts[0] += 1
            counts[1] += 1
    return counts[2] > before


@inner
def _share(plan, share, sums, counts, rooms):
    """The sums (4,) of a share, and its counts (4,): unequal, not finite, the largest's bits and
    its index."""
    # where the chunk begins in which the largest is yet to be searched
    size, searched = plan[0], np.int64(-1)
    for first in range(share * SHARE, min(share * SHARE + SHARE, size), CHUNK):
        count = min(CHUNK, size - first)
        aa, bb, ab, dd, unequal, largest = _chunk_at(plan, first, count)
        if not (_is_finite(aa + bb + dd) and min(aa, bb) >= LEAST and (dd >= LEAST or not unequal)):
            a, b = _numbers_at(plan, first, count, rooms)
            if _one_by_one(a, b, first, sums, counts):
                searched = np.int64(-1)
            continue
        sums[0] += np.float64(aa)
        sums[1] += np.float64(bb)
        sums[2] += np.float64(ab)
        sums[3] += np.float64(dd)
        counts[0] += unequal
        if largest > counts[2]:
            counts[2], searched = largest, first
    if searched >= 0:
        a, b = _numbers_at(plan, searched, min(CHUNK, size - searched), rooms)
        counts[3] = searched + _index(a, b, counts[2])


def _shares(pointer, thread):
    plan = carray(pointer, (PLAN,))
    shares, threads = plan[1], plan[2]
    sums, counts = doubles(plan[6], shares, 4), wholes(plan[7], shares, 4)
    rooms = np.empty((2, CHUNK), np.float32)
    for share in range(thread, shares, threads):
        _share(plan, share, sums[share], counts[share], rooms)


_share_differences = Crew(_shares)


def _differences(kind):
    def differences(a, b):
        shares, threads = (a.size + SHARE - 1) // SHARE, threads_for(a.size)
        sums, counts = np.zeros((shares, 4)), np.zeros((shares, 4), np.int64)
        a, b = np.ascontiguousarray(a), np.ascontiguousarray(b)
        _share_differences(told(a.size, shares, threads, kind, a, b, sums, counts), threads)
        largest = counts[counts[:, 2].argmax(), 3] if shares else 0
        return sums.sum(0), np.array([*counts[:, :2].sum(0), largest], np.int64)

    return differences


override("comparing.differences", "float32")(_differences(FLOAT32))
override("comparing.differences", "bfloat16")(_differences(BFLOAT16))
override("comparing.differences", "float16")(_differences(FLOAT16))
