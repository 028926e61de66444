"""`kernels.matmul_stack`: one call of BLAS for each matrix, the stack split over threads."""

import numba
import numpy as np

from entrenar_core.kernels.cpu import blas
from entrenar_core.kernels.cpu.compile import F, inner, jit
from entrenar_core.kernels.cpu.matmul import _matmul
from entrenar_core.kernels.cpu.threads import share_out
from entrenar_core.kernels.registry import KERNELS, override


@inner
def _sgemm_some(first, last, op_a, op_b, m, n, k, a, step_a, lda, b, step_b, ldb, c):
    for i in range(first, last):
        blas.sgemm(
            blas.ROW_MAJOR, op_a, op_b, m, n, k, F(1), a + i * step_a, lda,
            b + i * step_b, ldb, F(0), c + i * 4 * m * n, n,
        )  # fmt: skip


@jit
def _sgemm_stack(trans_a, trans_b, m, n, k, a, step_a, lda, b, step_b, ldb, out):
    op_a = blas.TRANSPOSED if trans_a else blas.PLAIN
    op_b = blas.TRANSPOSED if trans_b else blas.PLAIN
    before = blas.get_threads()
    blas.set_threads(1)
    share_out(
        _sgemm_some, len(out), len(out) * m * n * k,
        (op_a, op_b, m, n, k, a, step_a, lda, b, step_b, ldb, out.ctypes.data),
    )  # fmt: skip
    blas.set_threads(before)


def _matmul_stack(a, b, *, trans_a=False, trans_b=False):
    count, m, k = (a.swapaxes(1, 2) if trans_a else a).shape
    inner, n = b.shape[:0:-1] if trans_b else b.shape[1:]
    if (count, k) != (len(b), inner):  # BLAS would read beyond the end
        raise ValueError(f"stacks of {count} and {len(b)} matrices, over {k} and {inner} numbers")
    if 0 in (count, m, n, k) or b.dtype != np.float32:
        return KERNELS["matmul_stack.matmul_stack"].reference(
            a, b, trans_a=trans_a, trans_b=trans_b
        )
    out = np.empty((count, m, n), np.float32)
    if count < 2 * numba.get_num_threads():  # too few to share out: split each product
        for left, right, product in zip(a, b, out, strict=True):
            _matmul(left, right, trans_a=trans_a, trans_b=trans_b, out=product)
        return out
    a, b = _readable(a), _readable(b)
    _sgemm_stack(
        trans_a, trans_b, m, n, k, a.ctypes.data, a.strides[0], _leading(a),
        b.ctypes.data, b.strides[0], _leading(b), out,
    )  # fmt: skip
    return out


def _readable(stack):
    """The stack as BLAS can read its matrices: rows contiguous, and no two of them interleaved."""
    _, rows, columns = stack.shape
    down, across = stack.strides[1:]
    fits = (across == 4 or columns == 1) and (rows == 1 or down >= 4 * columns)
    return stack if fits else np.ascontiguousarray(stack)


def _leading(stack):
    """The distance of rows in elements. A single row may have any stride."""
    _, rows, columns = stack.shape
    return columns if rows == 1 else stack.strides[1] // 4


if blas.AVAILABLE:
    override("matmul_stack.matmul_stack", "float32")(_matmul_stack)
