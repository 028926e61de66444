"""The scatter of `kernels.embedding`; its gather is numpy's own."""

import numpy as np

from entrenar_core.kernels.cpu.compile import F, inner, jit
from entrenar_core.kernels.cpu.threads import BLOCK, share_out
from entrenar_core.kernels.registry import override

LINE = 16
"""Columns in a line of the cache, which has one owner."""

HUGE = 1 << 24
"""Elements from which the C library fills memory past the caches, which is twice as fast. Where it
begins to do so depends on the machine; 64 MiB are beyond the usual three quarters of a cache."""


@inner
def _zero_pieces(first, last, flat, step):
    for piece in range(first, last):
        flat[piece * step : piece * step + step] = F(0)


@inner
def _scatter_columns(first, last, g, ids, out):
    at = slice(first * LINE, last * LINE)
    for i in range(ids.size):
        row, source = out[ids[i], at], g[i, at]
        for j in range(row.size):
            row[j] += source[j]


@jit
def _scatter(g, ids, out, add, step):
    if not add:
        pieces = (out.size + step - 1) // step
        share_out(_zero_pieces, pieces, out.size, (out.reshape(-1), step))
    # a column has one owner, so equal ids never race and are added in their order
    share_out(_scatter_columns, (out.shape[1] + LINE - 1) // LINE, g.size, (g, ids, out))


@override("embedding.embedding_grad", "float32")
def embedding_grad(g, ids, *, out, add):
    step = out.size // (out.size // HUGE) + 1 if out.size >= 2 * HUGE else BLOCK
    _scatter(np.ascontiguousarray(g), ids, out, add, step)
    return out
