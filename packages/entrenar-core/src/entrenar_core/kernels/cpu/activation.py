"""`kernels.activation` in one pass each."""

import numba
import numpy as np

from entrenar_core.kernels.cpu.compile import F, exp, jit
from entrenar_core.kernels.registry import override


@jit
def _forward(gate, up, y):
    for i in numba.prange(y.shape[0]):
        for j in range(y.shape[1]):
            x = gate[i, j]
            negative = F(80) if -x > F(80) else -x
            y[i, j] = x / (F(1) + exp(negative)) * up[i, j]


@jit
def _backward(g, gate, up, dgate, dup, y):
    for i in numba.prange(y.shape[0]):
        for j in range(y.shape[1]):
            x = gate[i, j]
            negative = F(80) if -x > F(80) else -x
            sigmoid = F(1) / (F(1) + exp(negative))
            silu = x * sigmoid
            y[i, j] = silu * up[i, j]
            dup[i, j] = g[i, j] * silu
            dgate[i, j] = g[i, j] * up[i, j] * (sigmoid + silu * (F(1) - sigmoid))


@override("activation.swiglu", "float32")
def swiglu(gate, up):
    y = np.empty_like(gate)
    _forward(gate, up, y)
    return y


@override("activation.swiglu_grad", "float32")
def swiglu_grad(g, gate, up):
    dgate, dup, y = np.empty_like(g), np.empty_like(g), np.empty_like(g)
    _backward(g, gate, up, dgate, dup, y)
    return dgate, dup, y
