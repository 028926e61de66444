"""`kernels.comparing` in partial sums of pieces, which the number of threads does not change."""

import numba
import numpy as np

from entrenar_core.kernels.cpu.arrays import PLAN, doubles, floats, threads_for, told, wholes
from entrenar_core.kernels.cpu.compile import BLOCK, F, jit
from entrenar_core.kernels.cpu.crew import Crew
from entrenar_core.kernels.cpu.vectors import carray, inner
from entrenar_core.kernels.registry import override

CHUNK = 1024
"""Elements whose products are added up in float32."""


@inner
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


@override("comparing.magnitudes", "float32")
def magnitudes(x):
    parts = np.empty((len(x), (x.shape[1] + BLOCK - 1) // BLOCK))
    _magnitudes(x, parts)
    return parts.sum(1)


@inner
def _product(a, b):
    total = 0.0
    for j in range(a.size):
        total += np.float64(a[j]) * np.float64(b[j])
    return total


@jit
def _gram(x, parts):
    n = len(x)
    for piece in numba.prange(len(parts)):
        at = slice(piece * BLOCK, piece * BLOCK + BLOCK)
        for i in range(n):
            for k in range(i + 1):
                parts[piece, i, k] = _product(x[i, at], x[k, at])


@override("comparing.gram", "float32")
def gram(x):
    parts = np.zeros(((x.shape[1] + BLOCK - 1) // BLOCK, len(x), len(x)))
    _gram(x, parts)
    return _whole(parts.sum(0))


def _whole(lower):
    """A symmetric matrix of which only the lower half is there."""
    return lower + np.tril(lower, -1).T


@inner
def _short_product(a, b, size):
    """As `_product`, in float32: for so few elements that it makes no difference to people."""
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
    up[:], down[:] = 0, 0
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
