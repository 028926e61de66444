"""The scatter of `kernels.embedding`; its gather is numpy's own."""

import numba

from entrenar_core.kernels.cpu.compile import LANES, F, jit
from entrenar_core.kernels.registry import override


@jit
def _scatter(g, ids, out, add):
    # a lane owns a band of columns, so equal ids never race and are added in their order
    width = out.shape[1]
    step = (width + LANES - 1) // LANES
    for lane in numba.prange(LANES):
        low, high = min(width, lane * step), min(width, lane * step + step)
        if not add:
            out[:, low:high] = F(0)
        for i in range(ids.size):
            row, source = out[ids[i], low:high], g[i, low:high]
            for j in range(row.size):
                row[j] += source[j]


@override("embedding.embedding_grad", "float32")
def embedding_grad(g, ids, *, out, add):
    _scatter(g, ids, out, add)
    return out
