"""`kernels.attention` in tiles: the scores of a tile of queries of one head are all that exists.

Work is divided by (sequence, group of heads that share keys), so that dk and dv have one owner and
nothing depends on the number of threads.
"""

import math

import numba
import numpy as np

from entrenar_core.kernels.cpu import blas
from entrenar_core.kernels.cpu.compile import F, exp, jit
from entrenar_core.kernels.registry import KERNELS, override


@jit
def _rope(x, cos, sin, y, sign):
    batch, time, heads, width = x.shape
    half = width // 2
    for row in numba.prange(batch * time):
        b, t = row // time, row % time
        for h in range(heads):
            source, target = x[b, t, h], y[b, t, h]
            for j in range(half):
                c, s = cos[t, j], sign * sin[t, j]
                target[j] = source[j] * c - source[j + half] * s
                target[j + half] = source[j + half] * c + source[j] * s


@override("attention.rope", "float32")
def rope(x, cos, sin, *, inverse=False):
    y = np.empty(x.shape, np.float32)
    _rope(x, cos, sin, y, F(-1 if inverse else 1))
    return y


@jit
def _forward(q, k, v, o, lse, scratch, scale):
    batch, time, heads, width = q.shape
    keys, groups = k.shape[1], k.shape[2]
    ldq, ldk = heads * width, groups * width
    threads, tile = scratch.shape[0], scratch.shape[1]
    repeats = heads // groups
    q_at, k_at, v_at, o_at = q.ctypes.data, k.ctypes.data, v.ctypes.data, o.ctypes.data
    before = blas.get_threads()
    blas.set_threads(1)
    for thread in numba.prange(threads):
        scores = scratch[thread]
        s_at = scores.ctypes.data
        for unit in range(thread, batch * heads, threads):
            b, h = unit // heads, unit % heads
            q_head = q_at + 4 * (b * time * ldq + h * width)
            o_head = o_at + 4 * (b * time * ldq + h * width)
            k_head = k_at + 4 * (b * keys * ldk + h // repeats * width)
            v_head = v_at + 4 * (b * keys * ldk + h // repeats * width)
            for low in range(0, time, tile):
                high = min(low + tile, time)
                rows = high - low
                seen = keys - time + high  # keys that the last query of the tile may see
                blas.sgemm(
                    blas.ROW_MAJOR, blas.PLAIN, blas.TRANSPOSED, rows, seen, width, scale,
                    q_head + 4 * low * ldq, ldq, k_head, ldk, F(0), s_at, keys,
                )  # fmt: skip
                for i in range(rows):
                    row = scores[i, : keys - time + low + i + 1]
                    peak = row[0]
                    for j in range(row.size):
                        peak = max(peak, row[j])
                    total = F(0)
                    for j in range(row.size):
                        e = exp(row[j] - peak)
                        row[j] = e
                        total += e
                    lse[b, h, low + i] = peak + np.log(total)
                    inverse = F(1) / total
                    for j in range(row.size):
                        row[j] *= inverse
                    scores[i, row.size : seen] = F(0)
                blas.sgemm(
                    blas.ROW_MAJOR, blas.PLAIN, blas.PLAIN, rows, width, seen, F(1),
                    s_at, keys, v_head, ldk, F(0), o_head + 4 * low * ldq, ldq,
                )  # fmt: skip
    blas.set_threads(before)


@jit
def _backward(g, q, k, v, o, lse, dq, dk, dv, scratch, scale):
    batch, time, heads, width = q.shape
    keys, groups = k.shape[1], k.shape[2]
    ldq, ldk = heads * width, groups * width
    threads, tile = scratch.shape[0], scratch.shape[2]
    repeats = heads // groups
    tiles = (time + tile - 1) // tile
    g_at, q_at, k_at, v_at = g.ctypes.data, q.ctypes.data, k.ctypes.data, v.ctypes.data
    dq_at, dk_at, dv_at = dq.ctypes.data, dk.ctypes.data, dv.ctypes.data
    before = blas.get_threads()
    blas.set_threads(1)
    for thread in numba.prange(threads):
        weights, dscores = scratch[thread, 0], scratch[thread, 1]
        w_at, d_at = weights.ctypes.data, dscores.ctypes.data
        for unit in range(thread, batch * groups, threads):
            b, group = unit // groups, unit % groups
            kv = 4 * (b * keys * ldk + group * width)
            beta = F(0)
            for h in range(group * repeats, group * repeats + repeats):
                head = 4 * (b * time * ldq + h * width)
                # the last tile comes first: it sees every key, and so writes all of dk and dv
                for index in range(tiles - 1, -1, -1):
                    low = index * tile
                    high = min(low + tile, time)
                    rows = high - low
                    seen = keys - time + high
                    at = head + 4 * low * ldq
                    blas.sgemm(
                        blas.ROW_MAJOR, blas.PLAIN, blas.TRANSPOSED, rows, seen, width, scale,
                        q_at + at, ldq, k_at + kv, ldk, F(0), w_at, keys,
                    )  # fmt: skip
                    blas.sgemm(
                        blas.ROW_MAJOR, blas.PLAIN, blas.TRANSPOSED, rows, seen, width, F(1),
                        g_at + at, ldq, v_at + kv, ldk, F(0), d_at, keys,
                    )  # fmt: skip
                    for i in range(rows):
                        o_row, g_row = o[b, low + i, h], g[b, low + i, h]
                        dot = F(0)
                        for j in range(width):
                            dot += o_row[j] * g_row[j]
                        total = lse[b, h, low + i]
                        row = weights[i, : keys - time + low + i + 1]
                        drow = dscores[i, : row.size]
                        for j in range(row.size):
                            p = exp(row[j] - total)
                            row[j] = p
                            drow[j] = p * (drow[j] - dot)
                        weights[i, row.size : seen] = F(0)
                        dscores[i, row.size : seen] = F(0)
                    blas.sgemm(
                        blas.ROW_MAJOR, blas.TRANSPOSED, blas.PLAIN, seen, width, rows, F(1),
                        w_at, keys, g_at + at, ldq, beta, dv_at + kv, ldk,
                    )  # fmt: skip
                    blas.sgemm(
                        blas.ROW_MAJOR, blas.TRANSPOSED, blas.PLAIN, seen, width, rows, scale,
                        d_at, keys, q_at + at, ldq, beta, dk_at + kv, ldk,
                    )  # fmt: skip
                    blas.sgemm(
                        blas.ROW_MAJOR, blas.PLAIN, blas.PLAIN, rows, width, seen, scale,
                        d_at, keys, k_at + kv, ldk, F(0), dq_at + at, ldq,
                    )  # fmt: skip
                    beta = F(1)
    blas.set_threads(before)


def _tile(time):
    """Queries to a tile: a quarter of the sequence wastes little of the causal triangle, and a
    tile's scores stay in the cache."""
    return min(time, max(32, min(128, time // 4)))


def _attention(
    q, k, v, *, scale, causal=True, window=None, mask=None, bias=None, dropout=0.0, key=0
):  # fmt: skip
    if not causal or dropout or any(part is not None for part in (window, mask, bias)):
        return KERNELS["attention.attention"].reference(
            q, k, v, scale=scale, causal=causal, window=window, mask=mask, bias=bias,
            dropout=dropout, key=key,
        )  # fmt: skip
    q, k, v = (np.ascontiguousarray(array) for array in (q, k, v))  # a cache is part of a buffer
    batch, time, heads, _ = q.shape
    o = np.empty(q.shape, np.float32)
    lse = np.empty((batch, heads, time), np.float32)
    threads = min(numba.get_num_threads(), batch * heads)
    scratch = np.empty((threads, _tile(time), k.shape[1]), np.float32)
    _forward(q, k, v, o, lse, scratch, F(scale))
    return o, lse


def _attention_grad(
    g, q, k, v, o, lse, *, scale, causal=True, window=None, mask=None, bias=None, dropout=0.0,
    key=0, needs_bias=False,
):  # fmt: skip
    if not causal or dropout or any(part is not None for part in (window, mask, bias)):
        return KERNELS["attention.attention_grad"].reference(
            g, q, k, v, o, lse, scale=scale, causal=causal, window=window, mask=mask, bias=bias,
            dropout=dropout, key=key, needs_bias=needs_bias,
        )  # fmt: skip
    g, q, k, v, o = (np.ascontiguousarray(array) for array in (g, q, k, v, o))
    dq, dk, dv = np.empty_like(q), np.empty_like(k), np.empty_like(v)
    threads = min(numba.get_num_threads(), math.prod((k.shape[0], k.shape[2])))
    scratch = np.empty((threads, 2, _tile(q.shape[1]), k.shape[1]), np.float32)
    _backward(g, q, k, v, o, lse, dq, dk, dv, scratch, F(scale))
    return dq, dk, dv, None


if blas.AVAILABLE:
    override("attention.attention", "float32")(_attention)
    override("attention.attention_grad", "float32")(_attention_grad)
