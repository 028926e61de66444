"""`kernels.dropout` without the arrays of counters: eight of them are mixed at a time."""

import numpy as np

from entrenar_core.kernels.cpu.compile import F, inner, jit
from entrenar_core.kernels.cpu.threads import BLOCK, blocks_of, share_out
from entrenar_core.kernels.dropout import GOLDEN, MIX_1, MIX_2, threshold
from entrenar_core.kernels.registry import override

STEP, FIRST, SECOND = np.uint64(GOLDEN), np.uint64(MIX_1), np.uint64(MIX_2)


@inner
def _piece(x, y, factor, start, limit):
    z0 = start
    for i in range(x.size):
        z = z0 + np.uint64(i + 1) * STEP
        z = (z ^ (z >> np.uint64(30))) * FIRST
        z = (z ^ (z >> np.uint64(27))) * SECOND
        z = z ^ (z >> np.uint64(31))
        y[i] = x[i] * factor if z >= limit else F(0)


@inner
def _blocks(first, last, x, y, factor, key, limit):
    at = slice(first * BLOCK, last * BLOCK)
    _piece(x[at], y[at], factor, key + np.uint64(first * BLOCK) * STEP, limit)


@jit
def _dropout(x, y, factor, key, limit):
    share_out(_blocks, blocks_of(x.size), x.size, (x, y, factor, key, limit))


@override("dropout.dropout", "float32")
def dropout(x, *, p, key):
    y = np.empty(x.shape, np.float32)
    flat = np.ascontiguousarray(x).reshape(-1)
    _dropout(flat, y.reshape(-1), F(1 / (1 - p)), np.uint64(key), threshold(np, p))
    return y
