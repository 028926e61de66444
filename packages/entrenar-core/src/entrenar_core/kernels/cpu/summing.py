"""`kernels.summing`: threads share rows and groups, never what is added one after the other."""

import numpy as np

from entrenar_core.kernels.cpu.compile import exactly, inner_exactly
from entrenar_core.kernels.cpu.threads import share_out
from entrenar_core.kernels.registry import override
from entrenar_core.kernels.summing import COLUMNS, ROWS


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
def _squares_of_rows(first, last, x, sums):
    # eight names and no array of them: LLVM keeps them in one register
    for i in range(first, last):
        row, found = x[i], sums[i]
        a, b, c, d = found[0], found[1], found[2], found[3]
        e, f, g, h = found[4], found[5], found[6], found[7]
        for j in range(len(row)):
            a += row[j, 0] * row[j, 0]
            b += row[j, 1] * row[j, 1]
            c += row[j, 2] * row[j, 2]
            d += row[j, 3] * row[j, 3]
            e += row[j, 4] * row[j, 4]
            f += row[j, 5] * row[j, 5]
            g += row[j, 6] * row[j, 6]
            h += row[j, 7] * row[j, 7]
        found[0], found[1], found[2], found[3] = a, b, c, d
        found[4], found[5], found[6], found[7] = e, f, g, h


@exactly
def _add_squares(x, sums):
    share_out(_squares_of_rows, len(x), x.size, (x, sums))


@override("summing.add_squares", "float32")
def add_squares(x, sums):
    found = np.array(sums, np.float32)
    _add_squares(np.ascontiguousarray(x), found)
    return found


@inner_exactly
def _products_of_groups(first, last, a, b, lengths, out):
    m, n = lengths[0], lengths[1]
    for group in range(first, last):
        found = out[group]
        for column in range(COLUMNS):
            found[column] = 0
        for row in range(ROWS):
            at = slice(row * COLUMNS, row * COLUMNS + COLUMNS)
            u, v = a[group, at], b[group, at]
            for column in range(COLUMNS):
                found[column] += (u[column] / m) * (v[column] / n)


@exactly
def _unit_products(a, b, lengths, out):
    share_out(_products_of_groups, len(out), a.size, (a, b, lengths, out))


@override("summing.unit_products", "float32")
def unit_products(x, lengths):
    out = np.empty((x.shape[1], COLUMNS), np.float32)
    a, b = map(np.ascontiguousarray, x)
    _unit_products(a, b, np.asarray(lengths, np.float32), out)
    return out
