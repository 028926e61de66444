"""`kernels.update`: plain loops over the flat buffers run at the speed of memory."""

import numba
import numpy as np

from entrenar_core.kernels.cpu.compile import F, jit, serial
from entrenar_core.kernels.registry import KERNELS, override

BLOCKS = 256
"""Partial sums of a norm: a constant, so that the number of threads does not change its bits."""

ALONE = 131_072
"""Elements, half of a cache of 1 MB, up to which one thread is done with one pass over them before
another one would wake."""


@jit
def _accumulate(target, source):
    if target.size <= ALONE:
        for i in range(target.size):
            target[i] += source[i]
    else:
        for i in numba.prange(target.size):
            target[i] += source[i]


@jit
def _multiply(target, factor):
    if target.size <= ALONE:
        for i in range(target.size):
            target[i] *= factor
    else:
        for i in numba.prange(target.size):
            target[i] *= factor


@serial
def _squares_of_block(x, partial, block):
    step = (x.size + partial.size - 1) // partial.size
    part = x[block * step : min(x.size, block * step + step)]
    total = F(0)
    for i in range(part.size):
        total += part[i] * part[i]
    partial[block] = total


@jit
def _sum_of_squares(x, partial):
    if x.size <= ALONE:
        for block in range(partial.size):
            _squares_of_block(x, partial, block)
    else:
        for block in numba.prange(partial.size):
            _squares_of_block(x, partial, block)
    total = 0.0
    for block in range(partial.size):
        total += partial[block]
    return total


@jit
def _adam(p, g, m, v, peak, lr, beta1, beta2, eps, l2, decay, correction1, correction2, scale):
    one = F(1)
    for i in numba.prange(p.size):
        gi = g[i] * scale + l2 * p[i]
        mi = beta1 * m[i] + (one - beta1) * gi
        vi = beta2 * v[i] + (one - beta2) * gi * gi
        m[i] = mi
        v[i] = vi
        if peak is not None:  # decided when it is compiled: two functions, not a branch
            vi = np.maximum(peak[i], vi)
            peak[i] = vi
        p[i] = p[i] * decay - lr * (mi * correction1) / (np.sqrt(vi * correction2) + eps)


@override("update.accumulate", "float32")
def accumulate(target, source):
    if not (target.flags.c_contiguous and source.flags.c_contiguous):
        return KERNELS["update.accumulate"].reference(target, source)
    _accumulate(target.reshape(-1), source.reshape(-1))
    return target


@override("update.multiply", "float32")
def multiply(target, factor):
    if not target.flags.c_contiguous:
        return KERNELS["update.multiply"].reference(target, factor)
    _multiply(target.reshape(-1), F(factor))
    return target


@override("update.sum_of_squares", "float32")
def sum_of_squares(x):
    partial = np.empty(BLOCKS, np.float32)
    return _sum_of_squares(x, partial)


@override("update.adam", "float32")
def adam(p, g, m, v, *, lr, beta1, beta2, eps, weight_decay, step, scale, peak=None):
    _adam(
        p, g, m, v, peak, F(lr), F(beta1), F(beta2), F(eps), F(weight_decay), F(1),
        F(1 / (1 - beta1**step)), F(1 / (1 - beta2**step)), F(scale),
    )  # fmt: skip
    return p


@override("update.adamw", "float32")
def adamw(p, g, m, v, *, lr, beta1, beta2, eps, weight_decay, step, scale, peak=None):
    _adam(
        p, g, m, v, peak, F(lr), F(beta1), F(beta2), F(eps), F(0), F(1 - lr * weight_decay),
        F(1 / (1 - beta1**step)), F(1 / (1 - beta2**step)), F(scale),
    )  # fmt: skip
    return p
