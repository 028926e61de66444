"""`kernels.momentum`: one pass over the flat buffers instead of one for each operation."""

import numba
import numpy as np

from entrenar_core.kernels.cpu.compile import F, jit
from entrenar_core.kernels.registry import override

# A buffer that is None is known when a function is compiled: the branches on it cost nothing.


@jit
def _sgd(p, g, buffer, lr, momentum, gain, own, kept, decay, scale):
    for i in numba.prange(p.size):
        gi = g[i] * scale + decay * p[i]
        if buffer is not None:
            bi = momentum * buffer[i] + gain * gi
            buffer[i] = bi
            gi = own * gi + kept * bi
        p[i] = p[i] - lr * gi


@jit
def _lion(p, g, m, lr, beta1, beta2, decay, scale):
    one = F(1)
    for i in numba.prange(p.size):
        gi = g[i] * scale
        ui = beta1 * m[i] + (one - beta1) * gi
        m[i] = beta2 * m[i] + (one - beta2) * gi
        # zero and NaN are their own signs
        sign = one if ui > F(0) else (-one if ui < F(0) else ui)
        p[i] = p[i] * decay - lr * sign


@jit
def _rmsprop(p, g, square, mean, buffer, lr, alpha, eps, momentum, decay, scale):
    one = F(1)
    for i in numba.prange(p.size):
        gi = g[i] * scale + decay * p[i]
        variance = alpha * square[i] + (one - alpha) * gi * gi
        square[i] = variance
        if mean is not None:
            ai = alpha * mean[i] + (one - alpha) * gi
            mean[i] = ai
            variance -= ai * ai
        ui = gi / (np.sqrt(variance) + eps)
        if buffer is not None:
            ui += momentum * buffer[i]
            buffer[i] = ui
        p[i] = p[i] - lr * ui


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
