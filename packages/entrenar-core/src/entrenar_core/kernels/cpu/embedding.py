"""The scatter of `kernels.embedding`; its gather is numpy's own."""

import numba
import numpy as np

from entrenar_core.kernels.cpu.compile import BLOCK, SERIAL, F, jit, serial
from entrenar_core.kernels.registry import override

BAND = 64
"""The fewest columns that are worth a band of their own: four lines of the cache."""

HUGE = 1 << 24
"""Elements from which the C library fills memory past the caches, which is twice as fast. Where it
begins to do so depends on the machine; 64 MiB are beyond the usual three quarters of a cache."""


@jit
def _scatter(g, ids, out, add, step, bands):
    flat = out.reshape(-1)
    if not add:
        if flat.size <= SERIAL:
            _zero(flat)
        else:
            for piece in numba.prange((flat.size + step - 1) // step):
                _zero(flat[piece * step : piece * step + step])
    if bands == 1:
        _scatter_band(g, ids, out, 0, out.shape[1])
    else:
        # a band of columns has one owner, so equal ids never race and are added in their order
        width = (out.shape[1] // bands + 15) // 16 * 16
        for band in numba.prange(bands):
            end = out.shape[1] if band == bands - 1 else band * width + width
            _scatter_band(g, ids, out, band * width, end)


@serial
def _zero(part):
    part[:] = F(0)


@serial
def _scatter_band(g, ids, out, low, high):
    for i in range(ids.size):
        row, source = out[ids[i], low:high], g[i, low:high]
        for j in range(row.size):
            row[j] += source[j]


@override("embedding.embedding_grad", "float32")
def embedding_grad(g, ids, *, out, add):
    bands = max(1, min(numba.get_num_threads(), out.shape[1] // BAND)) if g.size > SERIAL else 1
    step = out.size // (out.size // HUGE) + 1 if out.size >= 2 * HUGE else BLOCK
    _scatter(np.ascontiguousarray(g), ids, out, add, step, bands)
    return out
