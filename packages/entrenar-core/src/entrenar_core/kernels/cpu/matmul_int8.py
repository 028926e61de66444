"""`kernels.matmul_int8`: by the processor's products of integers of 8 bits.

Where there are no such instructions, the reference computes the same integers.
"""

import numpy as np

from entrenar_core.kernels.cpu.features import compiles_for
from entrenar_core.kernels.int8_panels import int8_panels
from entrenar_core.kernels.matmul import matmul
from entrenar_core.kernels.matmul_int8 import check_operands
from entrenar_core.kernels.registry import override

AVAILABLE = compiles_for("avx512f", "avx512bw", "avx512vl", "avx512vnni")
"""Whether the processor multiplies integers of 8 bits."""


def _matmul_int8(a, b, *, trans_a=False, trans_b=False, out=None, add=False):
    panels = None if trans_a else int8_panels(b, trans_b=trans_b)
    if panels is None:
        return matmul(a, b, trans_a=trans_a, trans_b=trans_b, out=out, add=add)
    check_operands(a, panels)
    shape = len(a), panels.shape[0]
    if 0 in (*shape, a.shape[1]):
        return matmul(a, b, trans_b=trans_b, out=out, add=add)
    if out is None:
        out = np.empty(shape, np.float32)
    rows = a if a.strides[1] == a.itemsize else np.ascontiguousarray(a)
    quad_blocks.multiply(rows, panels, out=out, add=add)
    return out


if AVAILABLE:
    from entrenar_core.kernels.cpu import quad_blocks

    override("matmul_int8.matmul_int8", "float32")(_matmul_int8)
