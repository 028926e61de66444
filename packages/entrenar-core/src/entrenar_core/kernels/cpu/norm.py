"""`kernels.norm` in one pass over the rows each way."""

import numba
import numpy as np

from entrenar_core.kernels.cpu.compile import LANES, F, jit
from entrenar_core.kernels.registry import override


@jit
def _forward(x, weight, y, rstd, eps):
    width = x.shape[1]
    for i in numba.prange(x.shape[0]):
        total = F(0)
        for j in range(width):
            total += x[i, j] * x[i, j]
        r = F(1) / np.sqrt(total / F(width) + eps)
        rstd[i] = r
        for j in range(width):
            y[i, j] = x[i, j] * r * weight[j]


@jit
def _backward(g, x, weight, rstd, dx, add, partial):
    rows, width = x.shape
    step = (rows + LANES - 1) // LANES
    for lane in numba.prange(LANES):
        dweight = partial[lane]
        dweight[:] = F(0)
        for i in range(lane * step, min(rows, lane * step + step)):
            r = rstd[i]
            dot = F(0)
            for j in range(width):
                dot += g[i, j] * weight[j] * x[i, j]
            dot = dot * r * r * r / F(width)
            if add:
                for j in range(width):
                    dweight[j] += g[i, j] * x[i, j] * r
                    dx[i, j] += g[i, j] * weight[j] * r - x[i, j] * dot
            else:
                for j in range(width):
                    dweight[j] += g[i, j] * x[i, j] * r
                    dx[i, j] = g[i, j] * weight[j] * r - x[i, j] * dot


@override("norm.rms_norm", "float32")
def rms_norm(x, weight, *, eps):
    y = np.empty_like(x)
    rstd = np.empty(x.shape[0], np.float32)
    _forward(x, weight, y, rstd, F(eps))
    return y, rstd


@override("norm.rms_norm_grad", "float32")
def rms_norm_grad(g, x, weight, rstd, *, out=None, add=False):
    out = np.empty_like(x) if out is None else out
    partial = np.empty((LANES, x.shape[1]), np.float32)
    _backward(g, x, weight, rstd, out, add, partial)
    return out, partial.sum(axis=0)
