"""`kernels.matmul` split over threads along both dimensions of the result."""

import numba
import numpy as np

from entrenar_core.kernels.cpu import blas
from entrenar_core.kernels.cpu.compile import F, inner, jit
from entrenar_core.kernels.cpu.threads import share_out
from entrenar_core.kernels.panels import by_panels, comes_in_panels
from entrenar_core.kernels.registry import KERNELS, override

SMALL = 1_000_000
"""OpenBLAS (SkylakeX and later) takes a kernel of its own for m·n·k up to here."""

AVX512 = blas.CORE in {"SkylakeX", "Cooperlake", "SapphireRapids"}
"""Whether each element of a product is summed in one order wherever a cut runs. OpenBLAS's other
kernels sum the last few columns of a block differently, so there only rows are cut."""

ROUND = 16 if AVX512 else 12
"""Pieces are a multiple of this many rows and columns, what the kernels take at a time."""


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


def _steps(m, n, k, threads):
    """Rows and columns of a piece, for at most `threads` pieces of which none is small.

    OpenBLAS has other kernels, which round differently, for products of up to `SMALL`: a piece
    that fell below would make the result depend on the number of threads.
    """
    for count in range(threads, 1, -1):
        pieces_m, pieces_n = _split(m, n, count) if AVX512 else (count, 1)
        step_m, step_n = _step(m, pieces_m), _step(n, pieces_n)
        last_m, last_n = (m - 1) % step_m + 1, (n - 1) % step_n + 1
        if last_m * last_n * k > SMALL:
            return step_m, step_n
    return m, n


def _step(size, pieces):
    return (-(-size // pieces) + ROUND - 1) // ROUND * ROUND


@inner
def _sgemm_pieces(
    first, last, op_a, op_b, m, n, k, a, lda, b, ldb, beta, c, ldc, step_m, step_n
):  # fmt: skip
    pieces_n = (n + step_n - 1) // step_n
    for piece in range(first, last):
        row = piece // pieces_n * step_m
        column = piece % pieces_n * step_n
        blas.sgemm(
            blas.ROW_MAJOR, op_a, op_b, min(step_m, m - row), min(step_n, n - column), k, F(1),
            a + 4 * (row if op_a == blas.TRANSPOSED else row * lda), lda,
            b + 4 * (column * ldb if op_b == blas.TRANSPOSED else column), ldb,
            beta, c + 4 * (row * ldc + column), ldc,
        )  # fmt: skip


@jit
def _sgemm_split(trans_a, trans_b, m, n, k, a, lda, b, ldb, beta, c, ldc, step_m, step_n):
    """One call of BLAS for each piece of step_m rows and step_n columns of the result."""
    pieces = ((m + step_m - 1) // step_m) * ((n + step_n - 1) // step_n)
    op_a = blas.TRANSPOSED if trans_a else blas.PLAIN
    op_b = blas.TRANSPOSED if trans_b else blas.PLAIN
    before = blas.get_threads()
    blas.set_threads(1)
    share_out(
        _sgemm_pieces, pieces, m * n * k,
        (op_a, op_b, m, n, k, a, lda, b, ldb, beta, c, ldc, step_m, step_n),
    )  # fmt: skip
    blas.set_threads(before)


def _rows_contiguous(array):
    """Whether BLAS can read `array` as it lies: unit stride along the last axis."""
    return array.strides[1] == 4 and (len(array) == 1 or array.strides[0] >= 4 * array.shape[1])


def _leading(array):
    """The distance of rows in elements. A single row may have any stride, 0 after `x[None]`."""
    return array.shape[1] if len(array) == 1 else array.strides[0] // 4


def _matmul(a, b, *, trans_a=False, trans_b=False, out=None, add=False):
    m, k = a.shape[::-1] if trans_a else a.shape
    n = b.shape[0] if trans_b else b.shape[1]
    if (b.shape[1] if trans_b else b.shape[0]) != k:  # BLAS would read beyond the end
        raise ValueError(f"the products are over {k} numbers of a and {b.shape[trans_b]} of b")
    if comes_in_panels(b):
        return by_panels(_matmul, a, b, trans_a=trans_a, trans_b=trans_b, out=out, add=add)
    if out is None:
        out = np.empty((m, n), np.float32)
    if 0 in (m, n, k) or b.dtype != np.float32:
        return KERNELS["matmul.matmul"].reference(
            a, b, trans_a=trans_a, trans_b=trans_b, out=out, add=add
        )
    a = a if _rows_contiguous(a) else np.ascontiguousarray(a)
    b = b if _rows_contiguous(b) else np.ascontiguousarray(b)
    step_m, step_n = _steps(m, n, k, numba.get_num_threads())
    _sgemm_split(
        trans_a, trans_b, m, n, k,
        a.ctypes.data, _leading(a), b.ctypes.data, _leading(b),
        F(1 if add else 0), out.ctypes.data, _leading(out), step_m, step_n,
    )  # fmt: skip
    return out


if blas.AVAILABLE:
    override("matmul.matmul", "float32")(_matmul)
