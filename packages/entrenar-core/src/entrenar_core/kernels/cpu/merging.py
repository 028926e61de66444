"""`kernels.merging` in one pass over memory each, some elements at a time in the first cache."""

from functools import partial

import numba
import numpy as np

from entrenar_core.kernels.cpu.compile import BLOCK, F, exactly, jit, serial
from entrenar_core.kernels.cpu.dropout import FIRST, SECOND, STEP
from entrenar_core.kernels.cpu.narrow import (
    nearest_bfloat16,
    nearest_float16,
    wide_bfloat16,
    wide_float16,
)
from entrenar_core.kernels.cpu.vectors import inner
from entrenar_core.kernels.merging import LOWER, UPPER
from entrenar_core.kernels.registry import override

STEPS = {"float32": 0, "bfloat16": 1, "float16": 2}
"""The number that stands for a working type in compiled code."""

CHUNK = 1024
"""Elements that one step after another is done with, in the first cache."""

MAGNITUDE = np.uint32(0x7FFFFFFF)

exact = partial(exactly, parallel=False)
"""For parts of the work of an `exactly` kernel."""


@inner
def _settle(x, step):
    """Round in place to what the working type holds."""
    bits = x.view(np.uint32)
    if step == 1:
        for j in range(x.size):
            x[j] = wide_bfloat16(nearest_bfloat16(bits[j]))
    elif step == 2:
        for j in range(x.size):
            x[j] = wide_float16(nearest_float16(bits[j]))


@inner
def _widened(bits, out, kind):
    """Bits of a narrow type as float32."""
    if kind == 1:
        for j in range(bits.size):
            out[j] = wide_bfloat16(bits[j])
    else:
        for j in range(bits.size):
            out[j] = wide_float16(bits[j])


@exact
def _subtract(model, base, step):
    for j in range(model.size):
        model[j] -= base[j]
    _settle(model, step)


@exactly
def _narrow_task_vectors(inputs, out, kind, step):
    n, size = out.shape
    for piece in numba.prange((size + CHUNK - 1) // CHUNK):
        at = slice(piece * CHUNK, min(piece * CHUNK + CHUNK, size))
        base = np.empty(CHUNK, np.float32)[: inputs[0, at].size]
        _widened(inputs[0, at], base, kind)
        for i in range(n):
            _widened(inputs[i + 1, at], out[i, at], kind)
            _subtract(out[i, at], base, step)


@exactly
def _task_vectors(inputs, out, step):
    n, size = out.shape
    for piece in numba.prange((size + CHUNK - 1) // CHUNK):
        at = slice(piece * CHUNK, min(piece * CHUNK + CHUNK, size))
        for i in range(n):
            out[i, at] = inputs[i + 1, at]
            _subtract(out[i, at], inputs[0, at], step)


@override("merging.task_vectors", "bfloat16", "float16")
def _of_narrow(inputs, *, work):
    out = np.empty((len(inputs) - 1, inputs.shape[1]), np.float32)
    _narrow_task_vectors(inputs.view(np.uint16), out, STEPS[inputs.dtype.name], STEPS[work])
    return out


@override("merging.task_vectors", "float32")
def task_vectors(inputs, *, work):
    out = np.empty((len(inputs) - 1, inputs.shape[1]), np.float32)
    _task_vectors(inputs, out, STEPS[work])
    return out


@serial
def _count_upper(x, room):
    """Neighbours are often equal, and one count has to wait for the other: so two of each."""
    bits = x.view(np.uint32)
    room[:] = 0
    even, odd = room[0], room[1]
    for j in range(0, bits.size - 1, 2):
        even[(bits[j] & MAGNITUDE) >> np.uint32(16)] += 1
        odd[(bits[j + 1] & MAGNITUDE) >> np.uint32(16)] += 1
    if bits.size % 2:
        even[(bits[bits.size - 1] & MAGNITUDE) >> np.uint32(16)] += 1


@jit
def _upper_counts(x, counts, rooms):
    size = x.shape[1]
    part = (size + len(rooms) - 1) // len(rooms)
    for row in range(len(x)):
        for thread in numba.prange(len(rooms)):
            _count_upper(x[row, thread * part : thread * part + part], rooms[thread])
        for thread in range(len(rooms)):
            for j in range(UPPER):
                counts[row, j] += np.int64(rooms[thread, 0, j]) + np.int64(rooms[thread, 1, j])


@override("merging.upper_counts", "float32")
def upper_counts(x, counts):
    _upper_counts(x, counts, np.empty((numba.get_num_threads(), 2, UPPER), np.int32))
    return counts


@jit
def _lower_counts(x, among, counts, rooms):
    size = x.shape[1]
    part = (size + len(rooms) - 1) // len(rooms)
    for row in range(len(x)):
        wanted = np.uint32(among[row])
        for thread in numba.prange(len(rooms)):
            room = rooms[thread]
            room[:] = 0
            bits = x[row, thread * part : thread * part + part].view(np.uint32)
            for j in range(bits.size):
                if (bits[j] & MAGNITUDE) >> np.uint32(16) == wanted:
                    room[bits[j] & np.uint32(0xFFFF)] += 1
        for thread in range(len(rooms)):
            for j in range(rooms.shape[1]):
                counts[row, j] += rooms[thread, j]


@override("merging.lower_counts", "float32")
def lower_counts(x, among, counts):
    _lower_counts(x, among, counts, np.empty((numba.get_num_threads(), LOWER), np.int32))
    return counts


@serial
def _count_equal(x, bounds, found):
    lower, upper = bounds[0], bounds[1]
    low = high = np.int32(0)
    for j in range(x.size):
        size = abs(x[j])
        low += np.int32(size == lower)
        high += np.int32(size == upper)
    found[0], found[1] = low, high


@serial
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


@serial
def _keep_inside(x, out, lower, upper):
    for j in range(x.size):
        size = abs(x[j])
        out[j] = x[j] if size >= lower and size <= upper else F(0)


@serial
def _share(before, after, first, end):
    """Which of the elements numbered from `before` up to `after` are between two numbers: 1 for
    all of them, 0 for none, -1 for some."""
    if before >= first and after <= end:
        return 1
    return 0 if after <= first or before >= end else -1


@serial
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


@jit
def _keep_between(x, out, bounds, ties, seen):
    pieces = (x.shape[1] + BLOCK - 1) // BLOCK
    equal = np.zeros((len(x), pieces + 1, 2), np.int64)
    for piece in numba.prange(pieces * len(x)):
        row, number = piece // pieces, piece % pieces
        part = x[row, number * BLOCK : number * BLOCK + BLOCK]
        _count_equal(part, bounds[row], equal[row, number + 1])
    for row in range(len(x)):
        equal[row, 0] = seen[row]
        for number in range(pieces):
            equal[row, number + 1] += equal[row, number]
        seen[row] = equal[row, pieces]
    for piece in numba.prange(pieces * len(x)):
        row, number = piece // pieces, piece % pieces
        at = slice(number * BLOCK, number * BLOCK + BLOCK)
        before, after = equal[row, number], equal[row, number + 1]
        _keep_piece(x[row, at], out[row, at], bounds[row], ties[row], before, after)


@override("merging.keep_between", "float32")
def keep_between(x, bounds, ties, seen):
    out = np.empty_like(x)
    _keep_between(x, out, bounds, ties, seen)
    return out


@inner
def _mixed(key, number):
    """The output of that number, counted from 0, of SplitMix64."""
    z = key + np.uint64(number + 1) * STEP
    z = (z ^ (z >> np.uint64(30))) * FIRST
    z = (z ^ (z >> np.uint64(27))) * SECOND
    return z ^ (z >> np.uint64(31))


@jit
def _keep_drawn(x, out, keys, limits, start):
    pieces = (x.shape[1] + BLOCK - 1) // BLOCK
    for piece in numba.prange(pieces * len(x)):
        row, first = piece // pieces, piece % pieces * BLOCK
        at, key, limit = slice(first, first + BLOCK), keys[row], limits[row]
        part, found = x[row, at], out[row, at]
        for j in range(part.size):
            found[j] = part[j] if _mixed(key, start + first + j) < limit else F(0)


@override("merging.keep_drawn", "float32")
def keep_drawn(x, keys, limits, start):
    out = np.empty_like(x)
    _keep_drawn(x, out, keys, limits, start)
    return out


@serial
def _rank(x, order, other, counts):
    """order: the numbers of the elements of x from the smallest magnitude to the largest."""
    bits = x.view(np.uint32)
    for j in range(x.size):
        order[j] = j
    for digit in range(4):
        shift = np.uint32(8 * digit)
        counts[:] = 0
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
        order[:] = other


@jit
def _keep_ranked(x, keys, chances, start):
    rows, columns = x.shape[1:]
    for piece in numba.prange(len(x) * rows):
        model, row = piece // rows, piece % rows
        values = x[model, row]
        order, other = np.empty(columns, np.int64), np.empty(columns, np.int64)
        _rank(values, order, other, np.empty(256, np.int64))
        low, spread = chances[model, 0], chances[model, 1]
        for rank in range(columns):
            j = order[rank]
            draw = _mixed(keys[model], start + row * columns + j) >> np.uint64(11)
            if np.float64(draw) * 2.0**-53 >= low + spread * (rank / max(columns - 1, 1)):
                values[j] = F(0)


@override("merging.keep_ranked", "float32")
def keep_ranked(x, keys, chances, start):
    out = x.copy()
    _keep_ranked(out, keys, chances, start)
    return out


@exactly
def _scale_rows(x, factors, step):
    pieces = (x.shape[1] + BLOCK - 1) // BLOCK
    for piece in numba.prange(pieces * len(x)):
        row, first = piece // pieces, piece % pieces * BLOCK
        part = x[row, first : first + BLOCK]
        for j in range(part.size):
            part[j] *= factors[row]
        _settle(part, step)


@override("merging.scale_rows", "float32")
def scale_rows(x, factors, *, work):
    _scale_rows(x, factors, STEPS[work])
    return x


@exact
def _elect(scaled, weights, sign, divisor, step):
    """Set to 0 what has not the sign of the sum; add up the weights of the rest in `divisor`."""
    _add_up(scaled, sign, step)
    for j in range(sign.size):
        sign[j] = F(1) if sign[j] >= F(0) else F(-1)
    divisor[:] = F(0)
    for i in range(len(scaled)):
        row, weight = scaled[i], weights[i]
        for j in range(sign.size):
            counts = row[j] * sign[j] > F(0)
            row[j] = row[j] if counts else F(0)
            divisor[j] += weight if counts else F(0)
    _settle(divisor, step)


@exact
def _add_up(rows, out, step):
    out[:] = rows[0]
    for i in range(1, len(rows)):
        row = rows[i]
        for j in range(out.size):
            out[j] += row[j]
    _settle(out, step)


@exact
def _weigh(deltas, weights, out, step):
    for i in range(len(deltas)):
        delta, row, weight = deltas[i], out[i], weights[i]
        for j in range(row.size):
            row[j] = delta[j] * weight
        _settle(row, step)


@exact
def _divide(x, divisor, least, step):
    for j in range(x.size):
        small = divisor[j] == F(0) or abs(divisor[j]) < least
        x[j] /= F(1) if small else divisor[j]
    _settle(x, step)


@exact
def _finish(x, base, factor, step):
    """base + factor·x, in place."""
    if factor != F(1):
        for j in range(x.size):
            x[j] *= factor
        _settle(x, step)
    for j in range(x.size):
        x[j] += base[j]
    _settle(x, step)


@exactly
def _consensus(deltas, weights, base, out, elect, normalize, factor, step):
    n, size = deltas.shape
    for piece in numba.prange((size + CHUNK - 1) // CHUNK):
        at = slice(piece * CHUNK, min(piece * CHUNK + CHUNK, size))
        found = out[at]
        scaled = np.empty((n, found.size), np.float32)
        sign, divisor = np.empty(found.size, np.float32), np.empty(found.size, np.float32)
        _weigh(deltas[:, at], weights, scaled, step)
        if elect:
            _elect(scaled, weights, sign, divisor, step)
        else:
            divisor[:] = F(0)
            for i in range(n):
                divisor += weights[i]
            _settle(divisor, step)
        _add_up(scaled, found, step)
        if normalize:
            _divide(found, divisor, F(0) if elect else F(1e-8), step)
        _finish(found, base[at], factor, step)


@override("merging.consensus", "float32")
def consensus(deltas, weights, base, *, elect, normalize, factor, work):
    out = np.empty_like(base)
    _consensus(deltas, weights, base, out, elect, normalize, F(factor), STEPS[work])
    return out


@serial
def _sum_of_magnitudes(x):
    total = 0.0
    for j in range(x.size):
        total += np.float64(abs(x[j]))
    return total


@jit
def _magnitudes(x, parts):
    pieces = parts.shape[1]
    for piece in numba.prange(pieces * len(x)):
        row, number = piece // pieces, piece % pieces
        part = x[row, number * BLOCK : number * BLOCK + BLOCK]
        parts[row, number] = _sum_of_magnitudes(part)


@override("merging.magnitudes", "float32")
def magnitudes(x):
    parts = np.empty((len(x), (x.shape[1] + BLOCK - 1) // BLOCK))
    _magnitudes(x, parts)
    return parts.sum(1)


@exactly
def _weighted_sum(x, weights, out, divisor):
    n, size = x.shape
    for piece in numba.prange((size + CHUNK - 1) // CHUNK):
        at = slice(piece * CHUNK, piece * CHUNK + CHUNK)
        found, first = out[at], x[0, at]
        for j in range(found.size):
            found[j] = first[j] * weights[0]
        for i in range(1, n):
            row = x[i, at]
            for j in range(found.size):
                product = np.float64(row[j]) * np.float64(weights[i])
                found[j] = F(np.float64(found[j]) + product)
        if divisor != F(1):
            for j in range(found.size):
                found[j] /= divisor


@override("merging.weighted_sum", "float32")
def weighted_sum(x, weights, *, divisor=None):
    out = np.empty(x.shape[1], np.float32)
    _weighted_sum(x, weights, out, F(1 if divisor is None else divisor))
    return out


@serial
def _product(a, b):
    total = 0.0
    for j in range(a.size):
        total += np.float64(a[j]) * np.float64(b[j])
    return total


@serial
def _short_product(a, b):
    """As `_product`, in float32: for so few elements that it makes no difference to people."""
    total = F(0)
    for j in range(a.size):
        total += a[j] * b[j]
    return total


@jit
def _gram(x, parts):
    n = len(x)
    for piece in numba.prange(len(parts)):
        at = slice(piece * BLOCK, piece * BLOCK + BLOCK)
        for i in range(n):
            for k in range(i + 1):
                parts[piece, i, k] = _product(x[i, at], x[k, at])


@override("merging.gram", "float32")
def gram(x):
    parts = np.zeros(((x.shape[1] + BLOCK - 1) // BLOCK, len(x), len(x)))
    _gram(x, parts)
    return _whole(parts.sum(0))


def _whole(lower):
    """A symmetric matrix of which only the lower half is there."""
    return lower + np.tril(lower, -1).T


@jit
def _compare(changes, base, merged, parts, conflicts):
    n, size = changes.shape
    for piece in numba.prange(len(parts)):
        found, count = parts[piece], 0
        result = np.empty(CHUNK, np.float32)
        for first in range(piece * BLOCK, min(piece * BLOCK + BLOCK, size), CHUNK):
            at = slice(first, min(first + CHUNK, size))
            origin = base[at]
            change = result[: origin.size]
            change[:] = merged[at] - origin
            for i in range(n):
                for k in range(i + 1):
                    found[i, k] += _short_product(changes[i, at], changes[k, at])
                found[n, i] += _short_product(changes[i, at], change)
                found[n + 1, i] += _short_product(changes[i, at], origin)
            found[n, n] += _short_product(change, change)
            found[n + 1, n] += _short_product(change, origin)
            found[n + 1, n + 1] += _short_product(origin, origin)
            count += _disagreements(changes[:, at])
        conflicts[piece] = count


@serial
def _disagreements(rows):
    up, down = np.zeros(rows.shape[1], np.uint8), np.zeros(rows.shape[1], np.uint8)
    for i in range(len(rows)):
        row = rows[i]
        for j in range(row.size):
            up[j] |= row[j] > F(0)
            down[j] |= row[j] < F(0)
    count = np.int32(0)
    for j in range(up.size):
        count += np.int32(up[j] & down[j])
    return count


@override("merging.compare", "float32")
def compare(changes, base, merged):
    pieces, n = (base.size + BLOCK - 1) // BLOCK, len(changes)
    parts, conflicts = np.zeros((pieces, n + 2, n + 2)), np.zeros(pieces, np.int64)
    _compare(changes, base, merged, parts, conflicts)
    return _whole(parts.sum(0)), int(conflicts.sum())
