"""`kernels.blockwise`: every block by itself, with a table instead of a search."""

import numba
import numpy as np

from entrenar_core.kernels.blockwise import BLOCK, dynamic_map, nearest_table
from entrenar_core.kernels.cpu.compile import F, inner, jit
from entrenar_core.kernels.cpu.threads import share_out
from entrenar_core.kernels.cpu.vectors import get_thread_id
from entrenar_core.kernels.registry import override

LARGEST = F(np.finfo(np.float32).max)


@inner
def _encode_block(x, codes, table, limits):
    """Write the codes of one block; returns its absmax."""
    # magnitudes as integers: a float maximum that keeps NaN does not vectorize, and their order is
    # the same, with NaN above infinity
    bits, largest = x.view(np.int32), np.int32(0)
    for i in range(bits.size):
        largest = max(largest, bits[i] & np.int32(0x7FFFFFFF))
    absmax = np.int32(largest).view(np.float32)
    # the inverse of a subnormal number may be infinite
    inverse = np.minimum(F(1) / absmax, LARGEST)
    empty = absmax == F(0)
    for i in range(x.size):
        scaled = F(x[i] * inverse)
        code = table[np.uint32(scaled.view(np.uint32)) >> np.uint32(16)]
        codes[i] = np.uint8(0) if empty else code + np.uint8(scaled > limits[code])
    return absmax


@inner
def _quantize_blocks(first, last, x, codes, absmax, table, limits):
    for block in range(first, last):
        part = slice(block * BLOCK, min(x.size, block * BLOCK + BLOCK))
        absmax[block] = _encode_block(x[part], codes[part], table, limits)


@jit
def _quantize(x, codes, absmax, table, limits):
    share_out(_quantize_blocks, absmax.size, x.size, (x, codes, absmax, table, limits))


@inner
def _dequantize_blocks(first, last, codes, absmax, entries, out):
    for block in range(first, last):
        part = slice(block * BLOCK, min(out.size, block * BLOCK + BLOCK))
        source, target, scale = codes[part], out[part], absmax[block]
        for i in range(target.size):
            target[i] = entries[source[i]] * scale


@jit
def _dequantize(codes, absmax, entries, out):
    share_out(_dequantize_blocks, absmax.size, out.size, (codes, absmax, entries, out))


@inner
def _adam_8bit_blocks(
    first, last, p, g, m, v, m_absmax, v_absmax, m_entries, v_entries, m_table, v_table, m_limits,
    v_limits, rooms, lr, beta1, rest1, beta2, rest2, eps, l2, decay, correction1, correction2,
    scale,
):  # fmt: skip
    room = rooms[get_thread_id()]
    mean, square = room[0], room[1]
    for block in range(first, last):
        where = slice(block * BLOCK, block * BLOCK + BLOCK)
        x, gradient, m_codes, v_codes = p[where], g[where], m[where], v[where]
        m_scale, v_scale = m_absmax[block], v_absmax[block]
        for i in range(BLOCK):
            gi = gradient[i] * scale + l2 * x[i]
            mi = beta1 * (m_entries[m_codes[i]] * m_scale) + rest1 * gi
            vi = beta2 * (v_entries[v_codes[i]] * v_scale) + rest2 * gi * gi
            mean[i] = mi
            square[i] = vi
            x[i] = x[i] * decay - lr * (mi * correction1) / (np.sqrt(vi * correction2) + eps)
        m_absmax[block] = _encode_block(mean, m_codes, m_table, m_limits)
        v_absmax[block] = _encode_block(square, v_codes, v_table, v_limits)


@jit
def _adam_8bit(
    p, g, m, v, m_absmax, v_absmax, m_entries, v_entries, m_table, v_table, m_limits, v_limits,
    rooms, lr, beta1, rest1, beta2, rest2, eps, l2, decay, correction1, correction2, scale,
):  # fmt: skip
    told = (
        p, g, m, v, m_absmax, v_absmax, m_entries, v_entries, m_table, v_table, m_limits, v_limits,
        rooms, lr, beta1, rest1, beta2, rest2, eps, l2, decay, correction1, correction2, scale,
    )  # fmt: skip
    share_out(_adam_8bit_blocks, m_absmax.size, p.size, told)


@override("blockwise.quantize_blockwise", "float32")
def quantize_blockwise(x, *, signed):
    codes, absmax = np.empty(x.size, np.uint8), np.empty(-(-x.size // BLOCK), np.float32)
    _quantize(x, codes, absmax, *nearest_table(signed))
    return codes, absmax


@override("blockwise.dequantize_blockwise", "uint8")
def dequantize_blockwise(codes, absmax, *, signed):
    out = np.empty(codes.size, np.float32)
    _dequantize(codes, absmax, dynamic_map(signed), out)
    return out


@override("blockwise.adam_8bit", "float32")
def adam_8bit(
    p, g, m, v, m_absmax, v_absmax, *, lr, beta1, beta2, eps, l2, decay, step, scale
):  # fmt: skip
    (m_table, m_limits), (v_table, v_limits) = nearest_table(True), nearest_table(False)
    rooms = np.empty((numba.get_num_threads(), 2, BLOCK), np.float32)
    _adam_8bit(
        p, g, m, v, m_absmax, v_absmax, dynamic_map(True), dynamic_map(False), m_table, v_table,
        m_limits, v_limits, rooms, F(lr), F(beta1), F(1) - F(beta1), F(beta2), F(1) - F(beta2),
        F(eps), F(l2), F(decay), F(1 / (1 - beta1**step)), F(1 / (1 - beta2**step)), F(scale),
    )  # fmt: skip
    return p
