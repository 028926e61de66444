"""`kernels.summing`: threads share rows and groups, never what is added one after the other."""

import numpy as np

from entrenar_core.kernels.cpu.arrays import address
from entrenar_core.kernels.cpu.compile import exactly, inner_exactly
from entrenar_core.kernels.cpu.narrow import KINDS, numbers_at
from entrenar_core.kernels.cpu.threads import share_out
from entrenar_core.kernels.registry import override
from entrenar_core.kernels.summing import COLUMNS, LANES, ROWS

PIECE = 128
"""Rows of 8 that are widened at a time."""

GROUP = ROWS * COLUMNS


@inner_exactly
def _rows_one_by_one(first, last, x, sums):
    for i in range(first, last):
        found = sums[i]
        for j in range(x.shape[1]):
            row = x[i, j]
            for column in range(found.size):
                found[column] += row[column]


@exactly
def _add_rows(x, sums):
    share_out(_rows_one_by_one, len(x), x.size, (x, sums))


@override("summing.add_rows", "float32")
def add_rows(x, sums):
    found = np.array(sums, np.float32)
    _add_rows(np.ascontiguousarray(x), found)
    return found


@inner_exactly
def _add_squares_of(rows, sums):
    # eight names and no array of them: LLVM keeps them in one register
    a, b, c, d = sums[0], sums[1], sums[2], sums[3]
    e, f, g, h = sums[4], sums[5], sums[6], sums[7]
    for j in range(len(rows)):
        a += rows[j, 0] * rows[j, 0]
        b += rows[j, 1] * rows[j, 1]
        c += rows[j, 2] * rows[j, 2]
        d += rows[j, 3] * rows[j, 3]
        e += rows[j, 4] * rows[j, 4]
        f += rows[j, 5] * rows[j, 5]
        g += rows[j, 6] * rows[j, 6]
        h += rows[j, 7] * rows[j, 7]
    sums[0], sums[1], sums[2], sums[3] = a, b, c, d
    sums[4], sums[5], sums[6], sums[7] = e, f, g, h


@inner_exactly
def _squares_of_rows(first, last, x, kind, size, sums):
    room = np.empty(PIECE * LANES, np.float32)
    for i in range(first, last):
        for begin in range(0, size, PIECE * LANES):
            count = min(PIECE * LANES, size - begin)
            numbers = numbers_at(x, kind, i * size + begin, count, room)
            _add_squares_of(numbers.reshape(-1, LANES), sums[i])


@exactly
def _add_squares(x, kind, size, sums):
    share_out(_squares_of_rows, len(sums), len(sums) * size, (x, kind, size, sums))


@override("summing.add_squares", *KINDS)
def add_squares(x, sums):
    x, found = np.ascontiguousarray(x), np.array(sums, np.float32)
    _add_squares(address(x), KINDS[x.dtype.name], x.shape[1] * LANES, found)
    return found


@inner_exactly
def _products_of_groups(first, last, a, b, kind, lengths, out):
    m, n = lengths[0], lengths[1]
    rooms = np.empty((2, GROUP), np.float32)
    for group in range(first, last):
        found = out[group]
        for column in range(COLUMNS):
            found[column] = 0
        u = numbers_at(a, kind, group * GROUP, GROUP, rooms[0])
        v = numbers_at(b, kind, group * GROUP, GROUP, rooms[1])
        for row in range(ROWS):
            at = slice(row * COLUMNS, row * COLUMNS + COLUMNS)
            x, y = u[at], v[at]
            for column in range(COLUMNS):
                found[column] += (x[column] / m) * (y[column] / n)


@exactly
def _unit_products(a, b, kind, lengths, out):
    share_out(_products_of_groups, len(out), len(out) * GROUP, (a, b, kind, lengths, out))


@override("summing.unit_products", *KINDS)
def unit_products(x, lengths):
    out = np.empty((x.shape[1], COLUMNS), np.float32)
    a, b = map(np.ascontiguousarray, x)
    kind, lengths = KINDS[x.dtype.name], np.asarray(lengths, np.float32)
    _unit_products(address(a), address(b), kind, lengths, out)
    return out
