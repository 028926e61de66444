"""`kernels.matmul` split over threads along both dimensions of the result."""

import numba
import numpy as np

from entrenar_core.kernels.cpu import blas
from entrenar_core.kernels.cpu.compile import F, jit
from entrenar_core.kernels.registry import KERNELS, override

ROUND = 16
"""Pieces are a multiple of this many rows or columns, the width of a vector."""


def _split(m, n, threads):
    """How many pieces along m and n, their product being `threads`: the pieces nearest a square
    read the fewest operand bytes."""
    best_m, best = 1, float(m) + n / threads
    for pieces_m in range(2, threads + 1):
        if threads % pieces_m == 0:
            border = m / pieces_m + n / (threads // pieces_m)
            if border < best:
                best_m, best = pieces_m, border
    return best_m, threads // best_m


def _sgemm_split(trans_a, trans_b, m, n, k, a, lda, b, ldb, beta, c, ldc, pieces_m, pieces_n):
    step_m = ((m + pieces_m - 1) // pieces_m + ROUND - 1) // ROUND * ROUND
    step_n = ((n + pieces_n - 1) // pieces_n + ROUND - 1) // ROUND * ROUND
    op_a = blas.TRANSPOSED if trans_a else blas.PLAIN
    op_b = blas.TRANSPOSED if trans_b else blas.PLAIN
    before = blas.get_threads()
    blas.set_threads(1)
    for piece in numba.prange(pieces_m * pieces_n):
        row = piece // pieces_n * step_m
        column = piece % pieces_n * step_n
        rows, columns = min(step_m, m - row), min(step_n, n - column)
        if rows > 0 and columns > 0:
            blas.sgemm(
                blas.ROW_MAJOR, op_a, op_b, rows, columns, k, F(1),
                a + 4 * (row if trans_a else row * lda), lda,
                b + 4 * (column * ldb if trans_b else column), ldb,
                beta, c + 4 * (row * ldc + column), ldc,
            )  # fmt: skip
    blas.set_threads(before)


_sgemm_split = jit(_sgemm_split)


def _rows_contiguous(array):
    """Whether BLAS can read `array` as it lies: unit stride along the last axis."""
    return array.strides[1] == 4 and array.strides[0] >= 4 * array.shape[1]


def _matmul(a, b, *, trans_a=False, trans_b=False, out=None, add=False):
    m, k = a.shape[::-1] if trans_a else a.shape
    n = b.shape[0] if trans_b else b.shape[1]
    if out is None:
        out = np.empty((m, n), np.float32)
    if 0 in (m, n, k) or b.dtype != np.float32:
        return KERNELS["matmul.matmul"].reference(
            a, b, trans_a=trans_a, trans_b=trans_b, out=out, add=add
        )
    a = a if _rows_contiguous(a) else np.ascontiguousarray(a)
    b = b if _rows_contiguous(b) else np.ascontiguousarray(b)
    pieces_m, pieces_n = _split(m, n, numba.get_num_threads())
    _sgemm_split(
        trans_a, trans_b, m, n, k,
        a.ctypes.data, a.strides[0] // 4, b.ctypes.data, b.strides[0] // 4,
        F(1 if add else 0), out.ctypes.data, out.strides[0] // 4, pieces_m, pieces_n,
    )  # fmt: skip
    return out


if blas.AVAILABLE:
    override("matmul.matmul", "float32")(_matmul)
