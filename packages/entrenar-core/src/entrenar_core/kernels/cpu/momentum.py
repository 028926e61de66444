"""`kernels.momentum`: one pass over the flat buffers instead of one for each operation."""

import numpy as np

from entrenar_core.kernels.cpu.compile import F, inner, jit
from entrenar_core.kernels.cpu.threads import BLOCK, blocks_of, share_out
from entrenar_core.kernels.cpu.update import cut
from entrenar_core.kernels.registry import override

# A buffer that is None is known when a function is compiled: the branches on it cost nothing.


@inner
def _sgd_blocks(first, last, p, g, buffer, lr, momentum, gain, own, kept, decay, scale):
    at = slice(first * BLOCK, last * BLOCK)
    p, g, steps = p[at], g[at], cut(buffer, at)
    for i in range(p.size):
        gi = g[i] * scale + decay * p[i]
        if buffer is not None:
            bi = momentum * steps[i] + gain * gi
            steps[i] = bi
            gi = own * gi + kept * bi
        p[i] = p[i] - lr * gi


@inner
def _lion_blocks(first, last, p, g, m, lr, beta1, beta2, decay, scale):
    one, at = F(1), slice(first * BLOCK, last * BLOCK)
    p, g, m = p[at], g[at], m[at]
    for i in range(p.size):
        gi = g[i] * scale
        ui = beta1 * m[i] + (one - beta1) * gi
        m[i] = beta2 * m[i] + (one - beta2) * gi
        # zero and NaN are their own signs
        sign = one if ui > F(0) else (-one if ui < F(0) else ui)
        p[i] = p[i] * decay - lr * sign


@inner
def _rmsprop_blocks(
    first, last, p, g, square, mean, buffer, lr, alpha, eps, momentum, decay, scale
):  # fmt: skip
    one, at = F(1), slice(first * BLOCK, last * BLOCK)
    p, g, square, means, steps = p[at], g[at], square[at], cut(mean, at), cut(buffer, at)
    for i in range(p.size):
        gi = g[i] * scale + decay * p[i]
        variance = alpha * square[i] + (one - alpha) * gi * gi
        square[i] = variance
        if mean is not None:
            ai = alpha * means[i] + (one - alpha) * gi
            means[i] = ai
            variance -= ai * ai
        ui = gi / (np.sqrt(variance) + eps)
        if buffer is not None:
            ui += momentum * steps[i]
            steps[i] = ui
        p[i] = p[i] - lr * ui


@jit
def _sgd(p, g, buffer, lr, momentum, gain, own, kept, decay, scale):
    told = (p, g, buffer, lr, momentum, gain, own, kept, decay, scale)
    share_out(_sgd_blocks, blocks_of(p.size), p.size, told)


@jit
def _lion(p, g, m, lr, beta1, beta2, decay, scale):
    told = (p, g, m, lr, beta1, beta2, decay, scale)
    share_out(_lion_blocks, blocks_of(p.size), p.size, told)


@jit
def _rmsprop(p, g, square, mean, buffer, lr, alpha, eps, momentum, decay, scale):
    told = (p, g, square, mean, buffer, lr, alpha, eps, momentum, decay, scale)
    share_out(_rmsprop_blocks, blocks_of(p.size), p.size, told)


@override("momentum.sgd", "float32")
def sgd(p, g, *, lr, momentum, dampening, nesterov, weight_decay, scale, buffer=None):
    own, kept = (1, momentum) if nesterov else (0, 1)
    _sgd(
        p, g, buffer, F(lr), F(momentum), F(1 - dampening), F(own), F(kept), F(weight_decay),
        F(scale),
    )  # fmt: skip
    return p


@override("momentum.lion", "float32")
def lion(p, g, m, *, lr, beta1, beta2, weight_decay, scale):
    _lion(p, g, m, F(lr), F(beta1), F(beta2), F(1 - lr * weight_decay), F(scale))
    return p


@override("momentum.rmsprop", "float32")
def rmsprop(
    p, g, square, *, lr, alpha, eps, momentum, weight_decay, scale, mean=None, buffer=None
):  # fmt: skip
    _rmsprop(
        p, g, square, mean, buffer, F(lr), F(alpha), F(eps), F(momentum), F(weight_decay), F(scale)
    )
    return p
