"""`kernels.update`: plain loops over the flat buffers run at the speed of memory."""

from typing import Any

import numpy as np

from entrenar_core.kernels.cpu.compile import F, inner, jit
from entrenar_core.kernels.cpu.threads import BLOCK, blocks_of, share_out
from entrenar_core.kernels.registry import KERNELS, override

BLOCKS = 256
"""Partial sums of a norm: a constant, so that the number of threads does not change its bits."""

LIGHT = 8
"""Elements that are passed over in the time in which other kernels are done with one. One thread is
done with 131,072 of them, half of a cache of 1 MB, before another one would wake."""


@inner
def _accumulate_blocks(first, last, target, source):
    at = slice(first * BLOCK, last * BLOCK)
    target, source = target[at], source[at]
    for i in range(target.size):
        target[i] += source[i]


@inner
def _multiply_blocks(first, last, target, factor):
    target = target[first * BLOCK : last * BLOCK]
    for i in range(target.size):
        target[i] *= factor


@inner
def _squares(first, last, x, partial):
    step = (x.size + partial.size - 1) // partial.size
    for block in range(first, last):
        part = x[block * step : block * step + step]
        total = F(0)
        for i in range(part.size):
            total += part[i] * part[i]
        partial[block] = total


@inner
def cut(array: Any, at: Any) -> Any:
    """A part of an array that may be None: which one it is decides what is compiled."""
    return None if array is None else array[at]


@inner
def _adam_blocks(
    first, last, p, g, m, v, peak, lr, beta1, beta2, eps, l2, decay, correction1, correction2,
    scale,
):  # fmt: skip
    one, at = F(1), slice(first * BLOCK, last * BLOCK)
    p, g, m, v, highest = p[at], g[at], m[at], v[at], cut(peak, at)
    for i in range(p.size):
        gi = g[i] * scale + l2 * p[i]
        mi = beta1 * m[i] + (one - beta1) * gi
        vi = beta2 * v[i] + (one - beta2) * gi * gi
        m[i] = mi
        v[i] = vi
        if peak is not None:  # decided when it is compiled: two functions, not a branch
            vi = np.maximum(highest[i], vi)
            highest[i] = vi
        p[i] = p[i] * decay - lr * (mi * correction1) / (np.sqrt(vi * correction2) + eps)


@jit
def _accumulate(target, source):
    size = target.size
    share_out(_accumulate_blocks, blocks_of(size), size // LIGHT, (target, source))


@jit
def _multiply(target, factor):
    size = target.size
    share_out(_multiply_blocks, blocks_of(size), size // LIGHT, (target, factor))


@jit
def _sum_of_squares(x, partial):
    share_out(_squares, partial.size, x.size // LIGHT, (x, partial))
    total = 0.0
    for block in range(partial.size):
        total += partial[block]
    return total


@jit
def _adam(p, g, m, v, peak, lr, beta1, beta2, eps, l2, decay, correction1, correction2, scale):
    told = (p, g, m, v, peak, lr, beta1, beta2, eps, l2, decay, correction1, correction2, scale)
    share_out(_adam_blocks, blocks_of(p.size), p.size, told)


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
    return float(_sum_of_squares(x, partial))


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
