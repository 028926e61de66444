"""`kernels.low_rank` by pieces that stay in the cache from the first step to the last."""

import numpy as np

from entrenar_core.kernels.cpu.compile import inner, jit
from entrenar_core.kernels.cpu.narrow import (
    FLOAT16,
    KINDS,
    nearest_bfloat16,
    nearest_float16,
    widen_to,
)
from entrenar_core.kernels.cpu.products import product
from entrenar_core.kernels.cpu.threads import share_out
from entrenar_core.kernels.registry import KERNELS, override

ROWS, COLUMNS, VECTOR = 64, 512, 16
"""Rows of the weight that a thread takes at a time, columns of them that are floats at a time, and
columns that a product takes."""

DEEPEST = 128
"""Products over more numbers than this are BLAS's."""


@inner
def _round(source, target, kind):
    if kind == FLOAT16:
        for j in range(source.size):
            target[j] = nearest_float16(source[j])
    else:
        for j in range(source.size):
            target[j] = nearest_bfloat16(source[j])


@inner
def _add_blocks(first, last, weight, left, right, out, kinds):
    rows, columns = weight.shape
    depth = right.shape[0]
    piece = np.empty((ROWS, COLUMNS), np.float32)
    for begin in range(first * ROWS, min(rows, last * ROWS), ROWS):
        count = min(ROWS, rows - begin)
        for start in range(0, columns, COLUMNS):
            width = min(COLUMNS, columns - start)
            for i in range(count):
                widen_to(weight[begin + i, start : start + width], piece[i, :width], kinds[0])
            product(
                left.ctypes.data + 4 * depth * begin, 4 * depth, 4,
                right.ctypes.data + 4 * start, 4 * columns,
                piece.ctypes.data, 4 * COLUMNS, count, width // VECTOR, depth, 1,
            )  # fmt: skip
            for i in range(count):
                bits = piece[i, :width].view(np.uint32)
                _round(bits, out[begin + i, start : start + width], kinds[1])


@jit
def _add(weight, left, right, out, kinds):
    blocks = (weight.shape[0] + ROWS - 1) // ROWS
    share_out(_add_blocks, blocks, weight.size, (weight, left, right, out, kinds))


NARROW = "bfloat16", "float16"


@override("low_rank.add_low_rank", *NARROW)
def _add_low_rank(weight, left, right, *, out):
    fits = weight.shape[1] % VECTOR == 0 and right.shape[0] <= DEEPEST
    if not fits or out.dtype.name not in NARROW or left.dtype != np.float32:
        return KERNELS["low_rank.add_low_rank"].reference(weight, left, right, out=out)
    kinds = KINDS[weight.dtype.name], KINDS[out.dtype.name]
    _add(
        weight.view(np.uint16), np.ascontiguousarray(left), np.ascontiguousarray(right),
        out.view(np.uint16), kinds,
    )  # fmt: skip
    return out
