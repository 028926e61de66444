"""`kernels.activation` in one pass over flat arrays, in pieces that are handed to the threads."""

import math

import numpy as np

from entrenar_core.kernels.activation import CUBIC
from entrenar_core.kernels.cpu.compile import F, inner, jit
from entrenar_core.kernels.cpu.elementary import erf, exp, sigmoid
from entrenar_core.kernels.cpu.past_caches import PIECE, put_past, result
from entrenar_core.kernels.cpu.threads import BLOCK, blocks_of, share_out
from entrenar_core.kernels.cpu.vectors import apart
from entrenar_core.kernels.registry import override

ROOT = F(math.sqrt(0.5))
DENSITY = F(1 / math.sqrt(2 * math.pi))
TWICE = F(2 * math.sqrt(2 / math.pi))
CUBE = F(CUBIC)
NONE = np.empty(0, np.float32)
"""Stands for an array that is not wanted: a compiled function has one type for each argument."""


def _flat(array):
    return np.ascontiguousarray(array).reshape(-1)


@inner
def _silu_piece(x, y):
    apart()
    for i in range(x.size):
        y[i] = x[i] * sigmoid(x[i])


@inner
def _silu_grad_piece(g, x, dx):
    apart()
    for i in range(x.size):
        s = sigmoid(x[i])
        dx[i] = g[i] * s * (F(1) + x[i] * (F(1) - s))


@inner
def _gelu_piece(x, y, approximate):
    apart()
    if approximate:
        for i in range(x.size):
            y[i] = x[i] * sigmoid(TWICE * (x[i] + CUBE * x[i] * x[i] * x[i]))
    else:
        for i in range(x.size):
            y[i] = x[i] * (F(0.5) + F(0.5) * erf(x[i] * ROOT))


@jit  # by itself: as a part of the kernel LLVM makes it half as fast
def _gelu_grad_piece(g, x, dx, y, approximate):
    if approximate:
        for i in range(x.size):
            squared = x[i] * x[i]
            s = sigmoid(TWICE * (x[i] + CUBE * squared * x[i]))
            slope = TWICE * (F(1) + F(3) * CUBE * squared)
            value = x[i] * s
            dx[i] = g[i] * (s + value * (F(1) - s) * slope)
            if y.size:
                y[i] = value
    else:
        for i in range(x.size):
            cdf = F(0.5) + F(0.5) * erf(x[i] * ROOT)
            value = x[i] * cdf
            dx[i] = g[i] * (cdf + x[i] * DENSITY * exp(F(-0.5) * x[i] * x[i]))
            if y.size:
                y[i] = value


@inner
def _swiglu_piece(gate, up, y):
    apart()
    for i in range(gate.size):
        y[i] = gate[i] * sigmoid(gate[i]) * up[i]


@jit  # by itself: as a part of the kernel LLVM makes it half as fast
def _swiglu_grad_piece(g, gate, up, dgate, dup, y):
    for i in range(g.size):
        s = sigmoid(gate[i])
        activated = gate[i] * s
        inner = activated * up[i]
        outer = g[i]
        dup[i] = outer * activated
        dgate[i] = outer * up[i] * (s + activated * (F(1) - s))
        if y.size:
            y[i] = inner


@inner
def _apart(g, result, at):
    """A piece of `g`, copied where the result takes its place: LLVM computes one number after the
    other as soon as arrays overlap."""
    return g[at].copy() if g.ctypes.data == result.ctypes.data else g[at]


@inner
def _silu_blocks(first, last, x, y, past):
    if past:
        made = np.empty(PIECE, F)
        for begin in range(first * BLOCK, min(last * BLOCK, x.size), PIECE):
            at = slice(begin, begin + PIECE)
            _silu_piece(x[at], made)
            put_past(made, y[at])
    else:
        at = slice(first * BLOCK, last * BLOCK)
        _silu_piece(x[at], y[at])


@inner
def _silu_grad_blocks(first, last, g, x, dx, past):
    if past:
        made = np.empty(PIECE, F)
        for begin in range(first * BLOCK, min(last * BLOCK, x.size), PIECE):
            at = slice(begin, begin + PIECE)
            _silu_grad_piece(g[at], x[at], made)
            put_past(made, dx[at])
    else:
        at = slice(first * BLOCK, last * BLOCK)
        _silu_grad_piece(g[at], x[at], dx[at])


@inner
def _gelu_blocks(first, last, x, y, approximate, past):
    if past:
        made = np.empty(PIECE, F)
        for begin in range(first * BLOCK, min(last * BLOCK, x.size), PIECE):
            at = slice(begin, begin + PIECE)
            _gelu_piece(x[at], made, approximate)
            put_past(made, y[at])
    else:
        at = slice(first * BLOCK, last * BLOCK)
        _gelu_piece(x[at], y[at], approximate)


@inner
def _gelu_grad_blocks(first, last, g, x, dx, y, approximate, past):
    if past:
        made = np.empty(PIECE, F)
        for begin in range(first * BLOCK, min(last * BLOCK, x.size), PIECE):
            at = slice(begin, begin + PIECE)
            _gelu_grad_piece(g[at], x[at], made, y[at], approximate)
            put_past(made, dx[at])
    else:
        for block in range(first, last):
            at = slice(block * BLOCK, block * BLOCK + BLOCK)
            _gelu_grad_piece(_apart(g, dx, at), x[at], dx[at], y[at], approximate)


@inner
def _swiglu_blocks(first, last, gate, up, y, past):
    if past:
        made = np.empty(PIECE, F)
        for begin in range(first * BLOCK, min(last * BLOCK, y.size), PIECE):
            at = slice(begin, begin + PIECE)
            _swiglu_piece(gate[at], up[at], made)
            put_past(made, y[at])
    else:
        at = slice(first * BLOCK, last * BLOCK)
        _swiglu_piece(gate[at], up[at], y[at])


@inner
def _swiglu_grad_blocks(first, last, g, gate, up, dgate, dup, y, past):
    if past:
        made, made_too = np.empty(PIECE, F), np.empty(PIECE, F)
        for begin in range(first * BLOCK, min(last * BLOCK, g.size), PIECE):
            at = slice(begin, begin + PIECE)
            _swiglu_grad_piece(g[at], gate[at], up[at], made, made_too, y[at])
            put_past(made, dgate[at])
            put_past(made_too, dup[at])
    else:
        for block in range(first, last):
            at = slice(block * BLOCK, block * BLOCK + BLOCK)
            _swiglu_grad_piece(_apart(g, dgate, at), gate[at], up[at], dgate[at], dup[at], y[at])


@jit
def _silu(x, y, past):
    share_out(_silu_blocks, blocks_of(x.size), x.size, (x, y, past))


@jit
def _silu_grad(g, x, dx, past):
    share_out(_silu_grad_blocks, blocks_of(x.size), x.size, (g, x, dx, past))


@jit
def _gelu(x, y, approximate, past):
    share_out(_gelu_blocks, blocks_of(x.size), x.size, (x, y, approximate, past))


@jit
def _gelu_grad(g, x, dx, y, approximate, past):
    share_out(_gelu_grad_blocks, blocks_of(x.size), x.size, (g, x, dx, y, approximate, past))


@jit
def _swiglu(gate, up, y, past):
    share_out(_swiglu_blocks, blocks_of(y.size), y.size, (gate, up, y, past))


@jit
def _swiglu_grad(g, gate, up, dgate, dup, y, past):
    told = (g, gate, up, dgate, dup, y, past)
    share_out(_swiglu_grad_blocks, blocks_of(g.size), g.size, told)


@override("activation.silu", "float32")
def silu(x):
    y, past = result(x.shape)
    _silu(_flat(x), y.reshape(-1), past)
    return y


@override("activation.silu_grad", "float32")
def silu_grad(g, x):
    dx, past = result(x.shape)
    _silu_grad(_flat(g), _flat(x), dx.reshape(-1), past)
    return dx


@override("activation.gelu", "float32")
def gelu(x, *, approximate):
    y, past = result(x.shape)
    _gelu(_flat(x), y.reshape(-1), approximate, past)
    return y


@override("activation.gelu_grad", "float32")
def gelu_grad(g, x, *, approximate, out=None, value=None):
    out, past = result(x.shape) if out is None else (out, False)
    value = NONE if value is None else value.reshape(-1)
    _gelu_grad(_flat(g), _flat(x), out.reshape(-1), value, approximate, past)
    return out


@override("activation.swiglu", "float32")
def swiglu(gate, up):
    y, past = result(gate.shape)
    _swiglu(_flat(gate), _flat(up), y.reshape(-1), past)
    return y


@override("activation.swiglu_grad", "float32")
def swiglu_grad(g, gate, up, *, out=None, value=None):
    out, past = result(gate.shape) if out is None else (out, False)
    dup, _ = result(gate.shape)
    value = NONE if value is None else value.reshape(-1)
    _swiglu_grad(_flat(g), _flat(gate), _flat(up), out.reshape(-1), dup.reshape(-1), value, past)
    return out, dup
