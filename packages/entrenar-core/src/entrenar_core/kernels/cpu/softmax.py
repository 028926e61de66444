"""`kernels.softmax`: a row stays in the cache for its largest element, its sum and its result.

A loop that adds up writes nothing: LLVM takes one number after the other, and so in another order,
where what is written lies just behind what is read.
"""

import numpy as np

from entrenar_core.kernels.cpu.compile import F, inner, jit
from entrenar_core.kernels.cpu.elementary import exp, peak_of
from entrenar_core.kernels.cpu.past_caches import aligned, store_past, streams
from entrenar_core.kernels.cpu.threads import share_out
from entrenar_core.kernels.cpu.vectors import (
    INTEGER,
    NUMBER,
    WIDTH,
    each_vector,
    exponential,
    load,
    plus,
    routine,
    spread,
    times,
)
from entrenar_core.kernels.registry import override


@routine(*(INTEGER,) * 4, NUMBER)
def _softmax_grad_past(builder, g, y, dx, vectors, dot):
    """y · (g − dot), written past the caches."""
    shift = builder.fneg(spread(builder, dot))
    with each_vector(builder, vectors) as offset:
        gi, yi = (load(builder, builder.add(at, offset)) for at in (g, y))
        value = times(builder, yi, plus(builder, gi, shift))
        store_past(builder, value, builder.add(dx, offset))


@routine(*(INTEGER,) * 4, NUMBER)
def _log_softmax_grad_past(builder, g, y, dx, vectors, total):
    """g − exp(y) · total, written past the caches."""
    factor = builder.fneg(spread(builder, total))
    with each_vector(builder, vectors) as offset:
        gi, yi = (load(builder, builder.add(at, offset)) for at in (g, y))
        value = plus(builder, times(builder, exponential(builder, yi), factor), gi)
        store_past(builder, value, builder.add(dx, offset))


@inner
def _softmax_row(x, y):
    peak = peak_of(x)
    total = F(0)
    for j in range(x.size):
        shifted = x[j] - peak
        y[j] = F(0) if shifted < F(-87) else exp(shifted)  # −∞ has the weight 0
    for j in range(y.size):
        total += y[j]
    inverse = F(1) / total
    for j in range(y.size):
        y[j] *= inverse


@inner
def _dot(g, y):
    dot = F(0)
    for j in range(y.size):
        dot += g[j] * y[j]
    return dot


@inner
def _softmax_grad_part(g, y, dot, dx):
    for j in range(y.size):
        dx[j] = y[j] * (g[j] - dot)


@inner
def _log_softmax_row(x, y):
    peak = peak_of(x)
    total = F(0)
    for j in range(x.size):
        y[j] = x[j] - peak  # peak + log(total) is not formed: one may be tiny beside the other
    for j in range(y.size):
        total += exp(y[j])
    shift = np.log(total)
    for j in range(y.size):
        y[j] -= shift


@inner
def _total(g):
    total = F(0)
    for j in range(g.size):
        total += g[j]
    return total


@inner
def _log_softmax_grad_part(g, y, total, dx):
    for j in range(g.size):
        dx[j] = g[j] - exp(y[j]) * total


@inner
def _softmax_rows(first, last, x, y):
    for i in range(first, last):
        _softmax_row(x[i], y[i])


@inner
def _softmax_grad_rows(first, last, g, y, dx):
    for i in range(first, last):
        _softmax_grad_part(g[i], y[i], _dot(g[i], y[i]), dx[i])


@inner
def _log_softmax_rows(first, last, x, y):
    for i in range(first, last):
        _log_softmax_row(x[i], y[i])


@inner
def _log_softmax_grad_rows(first, last, g, y, dx):
    for i in range(first, last):
        _log_softmax_grad_part(g[i], y[i], _total(g[i]), dx[i])


@inner
def _softmax_grad_rows_past_caches(first, last, g, y, dx):
    for i in range(first, last):
        gi, yi, di = g[i].ctypes.data, y[i].ctypes.data, dx[i].ctypes.data
        _softmax_grad_past(gi, yi, di, y.shape[1] // WIDTH, _dot(g[i], y[i]))


@inner
def _log_softmax_grad_rows_past_caches(first, last, g, y, dx):
    for i in range(first, last):
        gi, yi, di = g[i].ctypes.data, y[i].ctypes.data, dx[i].ctypes.data
        _log_softmax_grad_past(gi, yi, di, y.shape[1] // WIDTH, _total(g[i]))


@jit
def _softmax(x, y):
    share_out(_softmax_rows, x.shape[0], x.size, (x, y))


@jit
def _softmax_grad(g, y, dx):
    share_out(_softmax_grad_rows, y.shape[0], y.size, (g, y, dx))


@jit
def _softmax_grad_past_caches(g, y, dx):
    share_out(_softmax_grad_rows_past_caches, y.shape[0], y.size, (g, y, dx))


@jit
def _log_softmax(x, y):
    share_out(_log_softmax_rows, x.shape[0], x.size, (x, y))


@jit
def _log_softmax_grad(g, y, dx):
    share_out(_log_softmax_grad_rows, y.shape[0], y.size, (g, y, dx))


@jit
def _log_softmax_grad_past_caches(g, y, dx):
    share_out(_log_softmax_grad_rows_past_caches, y.shape[0], y.size, (g, y, dx))


@override("softmax.softmax", "float32")
def softmax(x):
    y = np.empty(x.shape, np.float32)
    _softmax(np.ascontiguousarray(x), y)
    return y


@override("softmax.softmax_grad", "float32")
def softmax_grad(g, y):
    g, y = np.ascontiguousarray(g), np.ascontiguousarray(y)
    if streams(y.shape):
        dx = aligned(y.shape)
        _softmax_grad_past_caches(g, y, dx)
    else:
        dx = np.empty(y.shape, np.float32)
        _softmax_grad(g, y, dx)
    return dx


@override("softmax.log_softmax", "float32")
def log_softmax(x):
    y = np.empty(x.shape, np.float32)
    _log_softmax(np.ascontiguousarray(x), y)
    return y


@override("softmax.log_softmax_grad", "float32")
def log_softmax_grad(g, y):
    g, y = np.ascontiguousarray(g), np.ascontiguousarray(y)
    if streams(y.shape):
        dx = aligned(y.shape)
        _log_softmax_grad_past_caches(g, y, dx)
    else:
        dx = np.empty(y.shape, np.float32)
        _log_softmax_grad(g, y, dx)
    return dx
