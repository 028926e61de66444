"""`kernels.softmax`: a row stays in the cache for its largest element, its sum and its result.

A loop that adds up writes nothing: LLVM takes one number after the other, and so in another order,
where what is written lies just behind what is read.
"""

import numba
import numpy as np

from entrenar_core.kernels.cpu.compile import SERIAL, F, exp, jit, peak_of, serial
from entrenar_core.kernels.cpu.past_caches import aligned, scratch, stream, streams
from entrenar_core.kernels.cpu.vectors import WIDTH, get_thread_id
from entrenar_core.kernels.registry import override

PART = 2048
"""Elements of a row that are computed before they are written past the caches."""


@serial
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


@serial
def _dot(g, y):
    dot = F(0)
    for j in range(y.size):
        dot += g[j] * y[j]
    return dot


@serial
def _softmax_grad_part(g, y, dot, dx):
    for j in range(y.size):
        dx[j] = y[j] * (g[j] - dot)


@serial
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


@serial
def _total(g):
    total = F(0)
    for j in range(g.size):
        total += g[j]
    return total


@serial
def _log_softmax_grad_part(g, y, total, dx):
    for j in range(g.size):
        dx[j] = g[j] - exp(y[j]) * total


@jit
def _softmax(x, y):
    if x.size <= SERIAL:
        for i in range(x.shape[0]):
            _softmax_row(x[i], y[i])
    else:
        for i in numba.prange(x.shape[0]):
            _softmax_row(x[i], y[i])


@jit
def _softmax_grad(g, y, dx):
    if g.size <= SERIAL:
        for i in range(g.shape[0]):
            _softmax_grad_part(g[i], y[i], _dot(g[i], y[i]), dx[i])
    else:
        for i in numba.prange(g.shape[0]):
            _softmax_grad_part(g[i], y[i], _dot(g[i], y[i]), dx[i])


@jit
def _log_softmax(x, y):
    if x.size <= SERIAL:
        for i in range(x.shape[0]):
            _log_softmax_row(x[i], y[i])
    else:
        for i in numba.prange(x.shape[0]):
            _log_softmax_row(x[i], y[i])


@jit
def _log_softmax_grad(g, y, dx):
    if g.size <= SERIAL:
        for i in range(g.shape[0]):
            _log_softmax_grad_part(g[i], y[i], _total(g[i]), dx[i])
    else:
        for i in numba.prange(g.shape[0]):
            _log_softmax_grad_part(g[i], y[i], _total(g[i]), dx[i])


@jit
def _softmax_grad_past_caches(g, y, dx, rows):
    width = y.shape[1]
    dx_at, rows_at = dx.ctypes.data, rows.ctypes.data
    for i in numba.prange(y.shape[0]):
        thread = get_thread_id()
        sum_of_row = _dot(g[i], y[i])
        for low in range(0, width, PART):
            gi, yi = g[i, low : low + PART], y[i, low : low + PART]
            _softmax_grad_part(gi, yi, sum_of_row, rows[thread, : gi.size])
            at = dx_at + (i * width + low) * 4
            stream(rows_at + thread * rows.shape[1] * 4, at, gi.size // WIDTH)


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
        _softmax_grad_past_caches(g, y, dx, scratch(PART))
    else:
        dx = np.empty(y.shape, np.float32)
        _softmax_grad(g, y, dx)
    return dx


@jit
def _log_softmax_grad_past_caches(g, y, dx, rows):
    width = y.shape[1]
    dx_at, rows_at = dx.ctypes.data, rows.ctypes.data
    for i in numba.prange(y.shape[0]):
        thread = get_thread_id()
        sum_of_row = _total(g[i])
        for low in range(0, width, PART):
            gi, yi = g[i, low : low + PART], y[i, low : low + PART]
            _log_softmax_grad_part(gi, yi, sum_of_row, rows[thread, : gi.size])
            at = dx_at + (i * width + low) * 4
            stream(rows_at + thread * rows.shape[1] * 4, at, gi.size // WIDTH)


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
        _log_softmax_grad_past_caches(g, y, dx, scratch(PART))
    else:
        dx = np.empty(y.shape, np.float32)
        _log_softmax_grad(g, y, dx)
    return dx
