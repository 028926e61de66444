"""`kernels.matmul_bf16`: by the processor's products of bfloat16 numbers, or by BLAS.

Where there are no such instructions, both operands are rounded and multiplied as float32. A product
of two bfloat16 numbers is exact in float32, so the two ways differ in the order of sums alone.
"""

import numpy as np

from entrenar_core.kernels.cpu import blas
from entrenar_core.kernels.cpu.compile import inner, jit
from entrenar_core.kernels.cpu.features import compiles_for
from entrenar_core.kernels.cpu.matmul import _matmul
from entrenar_core.kernels.cpu.matmul_stack import _matmul_stack
from entrenar_core.kernels.cpu.threads import share_out
from entrenar_core.kernels.held import Held
from entrenar_core.kernels.panels import by_panels, comes_in_panels
from entrenar_core.kernels.registry import KERNELS, override

AVAILABLE = compiles_for("avx512f", "avx512bw", "avx512vl", "avx512bf16")
"""Whether the processor multiplies bfloat16 numbers."""

LARGE = 1_000_000
"""Multiplications from which on one product of a stack is worth being packed and shared out."""

U = np.uint32


@inner
def _round_rows(first, last, x, y):
    for i in range(first, last):
        source, target = x[i].view(np.uint32), y[i].view(np.uint32)
        for j in range(source.size):
            bits = source[j]
            size = U(bits & U(0x7FFFFFFF))
            near = U(U(bits + U(0x7FFF) + U((bits >> U(16)) & U(1))) & U(0xFFFF0000))
            near = U(U(bits & U(0xFFFF0000)) | U(0x400000)) if size > U(0x7F800000) else near
            target[j] = U(bits & U(0x80000000)) if size < U(0x00800000) else near


@jit
def _round(x, y):
    share_out(_round_rows, x.shape[0], x.size, (x, y))


def _rounded(x):
    """x (…, D) as bfloat16 numbers in float32."""
    x = np.ascontiguousarray(x)
    y = np.empty(x.shape, np.float32)
    _round(x.reshape(-1, x.shape[-1]), y.reshape(-1, x.shape[-1]))
    return y


def _by_rows(x):
    return x if x.strides[1] == 4 else np.ascontiguousarray(x)


def packed(matrix):
    """`matrix` (N, K) of any float type as it is multiplied, in bfloat16."""
    wide = _by_rows(np.asarray(matrix, np.float32))
    return Held(pair_blocks.Panels(wide)) if wide.size else wide


def _matmul_bf16(a, b, *, trans_a=False, trans_b=False, out=None, add=False):
    m, k = a.shape[::-1] if trans_a else a.shape
    n = b.shape[0] if trans_b else b.shape[1]
    if (b.shape[1] if trans_b else b.shape[0]) != k:  # it would be read beyond the end
        raise ValueError(f"the products are over {k} numbers of a and {b.shape[trans_b]} of b")
    options = {"trans_a": trans_a, "trans_b": trans_b, "out": out, "add": add}
    if (
        AVAILABLE
        and isinstance(b, Held)
        and trans_b != b.transposed
        and isinstance(b.kept, pair_blocks.Panels)
    ):
        b = b.kept
    elif comes_in_panels(b):
        return by_panels(_matmul_bf16, a, b, **options)
    elif 0 in (m, n, k) or b.dtype != np.float32:
        return KERNELS["matmul_bf16.matmul_bf16"].reference(a, b, **options)
    elif not AVAILABLE:
        return _matmul(_rounded(a), _rounded(b), **options)
    else:
        b = _by_rows(b)
    a = _by_rows(a)
    if out is None:
        out = np.empty((m, n), np.float32)
    pair_blocks.multiply(a, b, trans_a=trans_a, trans_b=trans_b, out=out, add=add)
    return out


def _matmul_stack_bf16(a, b, *, trans_a=False, trans_b=False):
    count, m, k = (a.swapaxes(1, 2) if trans_a else a).shape
    inner, n = b.shape[:0:-1] if trans_b else b.shape[1:]
    if (count, k) != (len(b), inner):  # it would be read beyond the end
        raise ValueError(f"stacks of {count} and {len(b)} matrices, over {k} and {inner} numbers")
    if b.dtype != np.float32 or not AVAILABLE or m * n * k < LARGE:
        return _matmul_stack(_rounded(a), _rounded(b), trans_a=trans_a, trans_b=trans_b)
    out = np.empty((count, m, n), np.float32)
    for left, right, product in zip(a, b, out, strict=True):
        _matmul_bf16(left, right, trans_a=trans_a, trans_b=trans_b, out=product)
    return out


if AVAILABLE:
    from entrenar_core.kernels.cpu import pair_blocks
if AVAILABLE or blas.AVAILABLE:
    override("matmul_bf16.matmul_bf16", "float32")(_matmul_bf16)
    override("matmul_bf16.matmul_stack_bf16", "float32")(_matmul_stack_bf16)
