"""`kernels.trimming`: counts of each thread's own, and choices that one thread makes as many do."""

import numba
import numpy as np

from entrenar_core.kernels.cpu.arrays import PLAN, floats, threads_for, told, wholes
from entrenar_core.kernels.cpu.compile import F, inner, jit
from entrenar_core.kernels.cpu.crew import Crew
from entrenar_core.kernels.cpu.dropout import FIRST, SECOND, STEP
from entrenar_core.kernels.cpu.threads import BLOCK, blocks_of, share_out
from entrenar_core.kernels.cpu.vectors import carray
from entrenar_core.kernels.registry import override
from entrenar_core.kernels.trimming import LOWER, UPPER

MAGNITUDE = np.uint32(0x7FFFFFFF)
"""The bits of a float32 but its sign."""


@inner
def _count_upper(x, room):
    """Neighbours are often equal, and one count has to wait for the other: so two of each."""
    bits, even, odd = x.view(np.uint32), room[0], room[1]
    for value in range(UPPER):
        even[value] = odd[value] = 0
    for j in range(0, bits.size - 1, 2):
        even[(bits[j] & MAGNITUDE) >> np.uint32(16)] += 1
        odd[(bits[j + 1] & MAGNITUDE) >> np.uint32(16)] += 1
    if bits.size % 2:
        even[(bits[bits.size - 1] & MAGNITUDE) >> np.uint32(16)] += 1


@inner
def _count_upper_parts(first, last, x, rooms):
    step = (x.size + len(rooms) - 1) // len(rooms)
    for part in range(first, last):
        _count_upper(x[part * step : part * step + step], rooms[part])


@jit
def _upper_counts(x, counts, rooms):
    for row in range(len(x)):
        share_out(_count_upper_parts, len(rooms), x.shape[1], (x[row], rooms))
        for part in range(len(rooms)):
            for j in range(UPPER):
                counts[row, j] += np.int64(rooms[part, 0, j]) + np.int64(rooms[part, 1, j])


@override("trimming.upper_counts", "float32")
def upper_counts(x, counts):
    _upper_counts(x, counts, np.empty((numba.get_num_threads(), 2, UPPER), np.int32))
    return counts


@inner
def _count_lower(x, wanted, room):
    bits = x.view(np.uint32)
    for value in range(LOWER):
        room[value] = 0
    for j in range(bits.size):
        if (bits[j] & MAGNITUDE) >> np.uint32(16) == wanted:
            room[bits[j] & np.uint32(0xFFFF)] += 1


@inner
def _count_lower_parts(first, last, x, wanted, rooms):
    step = (x.size + len(rooms) - 1) // len(rooms)
    for part in range(first, last):
        _count_lower(x[part * step : part * step + step], wanted, rooms[part])


@jit
def _lower_counts(x, among, counts, rooms):
    for row in range(len(x)):
        told = (x[row], np.uint32(among[row]), rooms)
        share_out(_count_lower_parts, len(rooms), x.shape[1], told)
        for part in range(len(rooms)):
            for j in range(LOWER):
                counts[row, j] += rooms[part, j]


@override("trimming.lower_counts", "float32")
def lower_counts(x, among, counts):
    _lower_counts(x, among, counts, np.empty((numba.get_num_threads(), LOWER), np.int32))
    return counts


@inner
def _count_equal(x, bounds, found):
    lower, upper = bounds[0], bounds[1]
    low = high = np.int32(0)
    for j in range(x.size):
        size = abs(x[j])
        low += np.int32(size == lower)
        high += np.int32(size == upper)
    found[0], found[1] = low, high


@inner
def _keep(x, out, bounds, ties, low, high):
    """Element by element, where some of those that are equal to a bound are kept."""
    for j in range(x.size):
        size = abs(x[j])
        kept = size >= bounds[0] and size <= bounds[1]
        if size == bounds[0]:
            kept = kept and low >= ties[0] and low < ties[1]
            low += 1
        if size == bounds[1]:
            kept = kept and high < ties[2]
            high += 1
        out[j] = x[j] if kept else F(0)


@inner
def _keep_inside(x, out, lower, upper):
    for j in range(x.size):
        size = abs(x[j])
        out[j] = x[j] if size >= lower and size <= upper else F(0)


@inner
def _share(before, after, first, end):
    """Which of the elements numbered from `before` up to `after` are between two numbers: 1 for
    all of them, 0 for none, -1 for some."""
    if before >= end:  # first: from there on they may not have been counted
        return 0
    if before >= first and after <= end:
        return 1
    return 0 if after <= first else -1


@inner
def _keep_piece(x, out, bounds, ties, before, after):
    low = _share(before[0], after[0], ties[0], ties[1])
    high = _share(before[1], after[1], 0, ties[2])
    if low < 0 or high < 0 or bounds[0] == bounds[1]:
        _keep(x, out, bounds, ties, before[0], before[1])
        return
    lower, upper = bounds[0], bounds[1]
    lower = lower if low == 1 else np.nextafter(lower, F(np.inf))
    upper = upper if high == 1 else np.nextafter(upper, F(-np.inf))
    _keep_inside(x, out, lower, upper)


def _count(pointer, thread):
    plan = carray(pointer, (PLAN,))
    n, size, threads, pieces = plan[0], plan[1], plan[2], plan[3]
    x, bounds = floats(plan[4], n, size), floats(plan[6], n, 2)
    equal = wholes(plan[8], n * (pieces + 1), 2)
    for piece in range(thread, pieces * n, threads):
        row, number = piece // pieces, piece % pieces
        at = slice(number * BLOCK, min(number * BLOCK + BLOCK, size))
        _count_equal(x[row, at], bounds[row], equal[row * (pieces + 1) + number + 1])


def _keep_counted(pointer, thread):
    plan = carray(pointer, (PLAN,))
    n, size, threads, pieces = plan[0], plan[1], plan[2], plan[3]
    x, out, bounds = floats(plan[4], n, size), floats(plan[5], n, size), floats(plan[6], n, 2)
    ties, equal = wholes(plan[7], n, 3), wholes(plan[8], n * (pieces + 1), 2)
    for piece in range(thread, pieces * n, threads):
        row, number = piece // pieces, piece % pieces
        at = slice(number * BLOCK, min(number * BLOCK + BLOCK, size))
        before = row * (pieces + 1) + number
        _keep_piece(
            x[row, at], out[row, at], bounds[row], ties[row], equal[before], equal[before + 1]
        )


_share_count, _share_keep = Crew(_count), Crew(_keep_counted)


@override("trimming.keep_between", "float32")
def keep_between(x, bounds, ties, seen):
    n, size = x.shape
    x, bounds = np.ascontiguousarray(x), np.ascontiguousarray(bounds, np.float32)
    ties, out = np.ascontiguousarray(ties, np.int64), np.empty(x.shape, np.float32)
    pieces, threads = (size + BLOCK - 1) // BLOCK, threads_for(size * n)
    equal = np.zeros((n, pieces + 1, 2), np.int64)
    plan = told(n, size, threads, pieces, x, out, bounds, ties, equal)
    # once all those that are equal to the lower bound are dropped, nobody asks how many there are
    if np.any(seen[:, 0] < ties[:, 1]) or np.any(np.isfinite(bounds[:, 1])):
        _share_count(plan, threads)
    equal[:, 0] = seen
    np.cumsum(equal, axis=1, out=equal)
    seen[:] = equal[:, -1]
    _share_keep(plan, threads)
    return out


@inner
def _mixed(key, number):
    """The output of that number, counted from 0, of SplitMix64."""
    z = key + np.uint64(number + 1) * STEP
    z = (z ^ (z >> np.uint64(30))) * FIRST
    z = (z ^ (z >> np.uint64(27))) * SECOND
    return z ^ (z >> np.uint64(31))


@inner
def _keep_pairs(x, out, key, limit, number):
    """x of elements that have both halves of each output, beginning with that of `number`."""
    for j in range(x.size // 2):
        drawn = _mixed(key, number + j)
        a, b = x[2 * j], x[2 * j + 1]
        out[2 * j] = a if (drawn & np.uint64(0xFFFFFFFF)) < limit else F(0)
        out[2 * j + 1] = b if (drawn >> np.uint64(32)) < limit else F(0)


@inner
def _keep_one(x, out, j, key, limit, number):
    """One element, whose 32 bits have that number."""
    drawn = _mixed(key, number // 2) >> np.uint64(32 * (number % 2))
    out[j] = x[j] if (drawn & np.uint64(0xFFFFFFFF)) < limit else F(0)


@inner
def _keep_drawn_pieces(first, last, x, out, keys, limits, start):
    pieces = blocks_of(x.shape[1])
    for piece in range(first, last):
        row, begin = piece // pieces, piece % pieces * BLOCK
        at, key, limit = slice(begin, begin + BLOCK), keys[row], limits[row]
        part, found, number = x[row, at], out[row, at], start + begin
        odd = number % 2
        if odd:
            _keep_one(part, found, 0, key, limit, number)
        _keep_pairs(part[odd:], found[odd:], key, limit, (number + odd) // 2)
        if (part.size - odd) % 2:
            end = part.size - 1
            _keep_one(part, found, end, key, limit, number + end)


@jit
def _keep_drawn(x, out, keys, limits, start):
    told = (x, out, keys, limits, start)
    share_out(_keep_drawn_pieces, len(x) * blocks_of(x.shape[1]), x.size, told)


@override("trimming.keep_drawn", "float32")
def keep_drawn(x, keys, limits, start):
    out = np.empty_like(x)
    _keep_drawn(x, out, keys, limits, start)
    return out


@inner
def _rank(x, order, other, counts):
    """order: the numbers of the elements of x from the smallest magnitude to the largest."""
    bits = x.view(np.uint32)
    for j in range(x.size):
        order[j] = j
    for digit in range(4):
        shift = np.uint32(8 * digit)
        for value in range(256):
            counts[value] = 0
        for j in range(x.size):
            counts[((bits[j] & MAGNITUDE) >> shift) & np.uint32(0xFF)] += 1
        if counts[((bits[0] & MAGNITUDE) >> shift) & np.uint32(0xFF)] == x.size:
            continue  # all of them have this digit
        total = 0
        for value in range(256):
            total, counts[value] = total + counts[value], total
        for j in range(x.size):
            value = ((bits[order[j]] & MAGNITUDE) >> shift) & np.uint32(0xFF)
            other[counts[value]] = order[j]
            counts[value] += 1
        for j in range(x.size):
            order[j] = other[j]


@inner
def _keep_ranked_rows(first, last, x, keys, chances, start):
    rows, columns = x.shape[1:]
    order, other = np.empty(columns, np.int64), np.empty(columns, np.int64)
    counts = np.empty(256, np.int64)
    for number in range(first, last):
        model, row = number // rows, number % rows
        values = x[model, row]
        _rank(values, order, other, counts)
        low, spread = chances[model, 0], chances[model, 1]
        for rank in range(columns):
            j = order[rank]
            draw = _mixed(keys[model], start + row * columns + j) >> np.uint64(11)
            if np.float64(draw) * 2.0**-53 >= low + spread * (rank / max(columns - 1, 1)):
                values[j] = F(0)


@jit
def _keep_ranked(x, keys, chances, start):
    rows = x.shape[0] * x.shape[1]
    share_out(_keep_ranked_rows, rows, x.size, (x, keys, chances, start))


@override("trimming.keep_ranked", "float32")
def keep_ranked(x, keys, chances, start):
    out = x.copy()
    _keep_ranked(out, keys, chances, start)
    return out
