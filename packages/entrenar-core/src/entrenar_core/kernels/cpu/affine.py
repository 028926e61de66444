"""`kernels.affine`: one pass over memory, each scale by itself."""

import numpy as np

from entrenar_core.kernels.affine import inverse
from entrenar_core.kernels.cpu.compile import F, inner, jit
from entrenar_core.kernels.cpu.threads import LANES, share_out
from entrenar_core.kernels.registry import override

PIECE = 4096
"""Elements of a row that are worked on at a time."""


@inner
def _clip(q, low, high):
    return low if q < low else (high if q > high else q)  # NaN stays NaN


@inner
def _round(x, inverse, zero, low, high):
    return _clip(np.rint(x * inverse) + zero, low, high)


@inner
def _pieces(columns):
    """Into how many pieces a row is cut."""
    return (columns + PIECE - 1) // PIECE


@inner
def _fake_pieces(first, last, x, scale, inverse, zero, low, high, y):
    pieces = _pieces(x.shape[1])
    for part in range(first, last):
        r = part // pieces
        at = slice(part % pieces * PIECE, part % pieces * PIECE + PIECE)
        source, target, s, i, z = x[r, at], y[r, at], scale[r], inverse[r], zero[r]
        for c in range(source.size):
            target[c] = (_round(source[c], i, z, low, high) - z) * s


@inner
def _codes_of_pieces(first, last, x, inverse, zero, low, high, y):
    pieces = _pieces(x.shape[1])
    for part in range(first, last):
        r = part // pieces
        at = slice(part % pieces * PIECE, part % pieces * PIECE + PIECE)
        source, target, i, z = x[r, at], y[r, at], inverse[r], zero[r]
        for c in range(source.size):
            target[c] = np.uint8(np.int32(_round(source[c], i, z, low, high) - low))


@inner
def _grad_row(g, x, inverse, zero, low, high, dx):
    total = F(0)
    for c in range(x.size):
        v = x[c] * inverse
        q = np.rint(v) + zero
        clipped = _clip(q, low, high)
        inside = q == clipped
        dx[c] = g[c] if inside else F(0)
        total += g[c] * (clipped - zero - (v if inside else F(0)))
    return total


@inner
def _grad_parts(first, last, g, x, inverse, zero, low, high, dx, sums):
    parts = sums.shape[1]
    step = (x.shape[1] + parts - 1) // parts
    for part in range(first, last):
        r, p = part // parts, part % parts
        at = slice(p * step, p * step + step)
        sums[r, p] = _grad_row(g[r, at], x[r, at], inverse[r], zero[r], low, high, dx[r, at])


@jit
def _fake(x, scale, inverse, zero, low, high, y):
    told = (x, scale, inverse, zero, low, high, y)
    share_out(_fake_pieces, x.shape[0] * _pieces(x.shape[1]), x.size, told)


@jit
def _codes(x, inverse, zero, low, high, y):
    told = (x, inverse, zero, low, high, y)
    share_out(_codes_of_pieces, x.shape[0] * _pieces(x.shape[1]), x.size, told)


@jit
def _grad(g, x, inverse, zero, low, high, dx, sums):
    told = (g, x, inverse, zero, low, high, dx, sums)
    share_out(_grad_parts, sums.size, x.size, told)


@override("affine.fake_affine", "float32")
def fake_affine(x, scale, zero, *, low, high):
    y, x = np.empty(x.shape, np.float32), np.ascontiguousarray(x)
    _fake(x, scale, inverse(scale), zero, F(low), F(high), y)
    return y


@override("affine.affine_codes", "float32")
def affine_codes(x, scale, zero, *, low, high):
    y, x = np.empty(x.shape, np.uint8), np.ascontiguousarray(x)
    _codes(x, inverse(scale), zero, F(low), F(high), y)
    return y


@override("affine.fake_affine_grad", "float32")
def fake_affine_grad(g, x, scale, zero, *, low, high):
    dx, x, g = np.empty(x.shape, np.float32), np.ascontiguousarray(x), np.ascontiguousarray(g)
    # a constant number of partial sums, so that the number of threads changes nothing
    parts = 1 if len(x) >= LANES or x.shape[1] < PIECE else 4 * LANES
    sums = np.zeros((len(x), parts), np.float32)
    _grad(g, x, inverse(scale), zero, F(low), F(high), dx, sums)
    return dx, sums.sum(axis=1)
