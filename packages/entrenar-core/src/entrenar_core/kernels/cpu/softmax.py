"""`kernels.softmax`: a row stays in the cache for its largest element, its sum and its result."""

import numba
import numpy as np

from entrenar_core.kernels.cpu.compile import SERIAL, F, exp, jit, peak_of, serial
from entrenar_core.kernels.registry import override


@serial
def _softmax_row(x, y):
    peak = peak_of(x)
    total = F(0)
    for j in range(x.size):
        shifted = x[j] - peak
        e = F(0) if shifted < F(-87) else exp(shifted)  # −∞ has the weight 0
        y[j] = e
        total += e
    inverse = F(1) / total
    for j in range(y.size):
        y[j] *= inverse


@serial
def _softmax_grad_row(g, y, dx):
    dot = F(0)
    for j in range(y.size):
        dot += g[j] * y[j]
    for j in range(y.size):
        dx[j] = y[j] * (g[j] - dot)


@serial
def _log_softmax_row(x, y):
    peak = peak_of(x)
    total = F(0)
    for j in range(x.size):
        shifted = x[j] - peak
        y[j] = (
            shifted  # peak + log(total), of which one may be tiny beside the other, is not formed
        )
        total += exp(shifted)
    shift = np.log(total)
    for j in range(y.size):
        y[j] -= shift


@serial
def _log_softmax_grad_row(g, y, dx):
    total = F(0)
    for j in range(g.size):
        total += g[j]
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
            _softmax_grad_row(g[i], y[i], dx[i])
    else:
        for i in numba.prange(g.shape[0]):
            _softmax_grad_row(g[i], y[i], dx[i])


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
            _log_softmax_grad_row(g[i], y[i], dx[i])
    else:
        for i in numba.prange(g.shape[0]):
            _log_softmax_grad_row(g[i], y[i], dx[i])


@override("softmax.softmax", "float32")
def softmax(x):
    y = np.empty(x.shape, np.float32)
    _softmax(np.ascontiguousarray(x), y)
    return y


@override("softmax.softmax_grad", "float32")
def softmax_grad(g, y):
    dx = np.empty(y.shape, np.float32)
    _softmax_grad(np.ascontiguousarray(g), np.ascontiguousarray(y), dx)
    return dx


@override("softmax.log_softmax", "float32")
def log_softmax(x):
    y = np.empty(x.shape, np.float32)
    _log_softmax(np.ascontiguousarray(x), y)
    return y


@override("softmax.log_softmax_grad", "float32")
def log_softmax_grad(g, y):
    dx = np.empty(y.shape, np.float32)
    _log_softmax_grad(np.ascontiguousarray(g), np.ascontiguousarray(y), dx)
    return dx
