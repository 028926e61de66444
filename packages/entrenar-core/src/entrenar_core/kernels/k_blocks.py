"""ggml's K formats: blocks of 256 numbers in parts that have scales of few bits themselves.

| format | parts | bytes of a block | a code q stands for |
| --- | --- | --- | --- |
| q2_k | 16 of 16 | 16 of s and m, 64 of codes, d, e | q·(d·s) − e·m |
| q3_k | 16 of 16 | 32 of third bits, 64 of codes, 12 of s, d | (q − 4)·(d·(s − 32)) |
| q4_k | 8 of 32 | d, e, 12 of s and m, 128 of codes | q·(d·s) − e·m |
| q5_k | 8 of 32 | d, e, 12 of s and m, 32 of fifth bits, 128 of codes | q·(d·s) − e·m |
| q6_k | 16 of 16 | 128 of lower bits, 64 of upper bits, 16 of s, d | (q − 32)·(d·s), s signed |

d and e are float16, s and m belong to a part and have 4 bits in q2_k and 6 in q3_k to q5_k.
Source: https://github.com/ggml-org/llama.cpp, `ggml-common.h` and `ggml-quants.c`.

The encoders search, in each part, the scale (and offset) of the least weighted squared error, as
ggml's do that are given no importance of the weights. Every operation is rounded by itself to
float32, and sums are taken in order: their rounding decides between candidates that are about as
good, and so the bytes are those of a ggml that was compiled without fused products.
"""

import numpy as np

from entrenar_core.kernels.blocks import _halves, _joined, _numbers, _split, _wide
from entrenar_core.kernels.registry import array_module, kernel

BLOCK = 256
TINY = np.float32(1e-15)
"""Parts whose largest magnitude is below this are taken for zeros by q6_k."""
_ROUNDER = np.float32(1.5 * 2**23)
F = np.float32


@kernel
def quantize_q4_k(x):
    """x (N, D) float32, D a multiple of 256, as blocks (N, D/256·144) uint8."""
    d, e, packed, codes = _with_offsets(x, 15, first=-1.0, candidates=21)
    return _joined(x, d, e, packed, _paired(codes), block=BLOCK)


@kernel
def quantize_q5_k(x):
    """x (N, D) float32, D a multiple of 256, as blocks (N, D/256·176) uint8."""
    d, e, packed, codes = _with_offsets(x, 31, first=-0.5, candidates=16)
    upper = _gathered((codes >> 4).reshape(-1, 8, 32), 1)
    return _joined(x, d, e, packed, upper, _paired(codes & np.uint8(15)), block=BLOCK)


@kernel
def quantize_q6_k(x):
    """x (N, D) float32, D a multiple of 256, as blocks (N, D/256·210) uint8."""
    xp = array_module(x)
    parts = x.reshape(-1, 16).astype("float32", copy=False).T  # (16, parts)
    with np.errstate(all="ignore"):
        scales, codes = _symmetric_fit(parts)
        scales = scales.reshape(-1, 16)
        top = _strongest(scales)
        inverse = F(-128) / top
        d = _halves(F(1) / inverse)
        small = xp.minimum(_nearest(inverse * scales), 127).astype("int8")
        step = (_wide(d) * small.astype("float32")).reshape(-1)
        again = xp.clip(_nearest(parts / step), -32, 31) + 32
    codes = xp.where(step == 0, codes, again).astype("uint8").T.reshape(-1, 2, 4, 32)
    lower = codes & np.uint8(15)
    lower = lower[:, :, :2] | (lower[:, :, 2:] << np.uint8(4))
    stored = [lower.reshape(-1, 128), _gathered(codes >> 4, 2), small.view("uint8"), d]
    empty = xp.abs(top) < TINY
    return _joined(x, *(xp.where(empty, np.uint8(0), part) for part in stored), block=BLOCK)


@kernel
def dequantize_q2_k(blocks, *, out=None):
    """The numbers (N, D) float32 of blocks (N, D/256·84) uint8, in `out` if it is given."""
    both, codes, d, e = _split(blocks, 16, 64, 2, 2)
    steps = _wide(d) * (both & np.uint8(15)).astype("float32")
    offsets = _wide(e) * (both >> np.uint8(4)).astype("float32")
    return _numbers(blocks, _parts(_spread(codes, 2), steps) - offsets[:, :, None], out)


@kernel
def dequantize_q3_k(blocks, *, out=None):
    """The numbers (N, D) float32 of blocks (N, D/256·110) uint8, in `out` if it is given."""
    xp = array_module(blocks)
    third, codes, packed, d = _split(blocks, 32, 64, 12, 2)
    lower = xp.concatenate([packed[:, :8] & np.uint8(15), packed[:, :8] >> np.uint8(4)], axis=1)
    scales = lower | (_spread(packed[:, 8:], 2, 4) << np.uint8(4))
    steps = _wide(d) * (scales.astype("float32") - F(32))
    codes = _spread(codes, 2) | (_spread(third, 1) << np.uint8(2))
    return _numbers(blocks, _parts(codes, steps, less=4), out)


@kernel
def dequantize_q4_k(blocks, *, out=None):
    """The numbers (N, D) float32 of blocks (N, D/256·144) uint8, in `out` if it is given."""
    d, e, packed, codes = _split(blocks, 2, 2, 12, 128)
    steps, offsets = _steps(d, e, packed)
    return _numbers(blocks, _parts(_spread(codes, 4), steps) - offsets[:, :, None], out)


@kernel
def dequantize_q5_k(blocks, *, out=None):
    """The numbers (N, D) float32 of blocks (N, D/256·176) uint8, in `out` if it is given."""
    d, e, packed, upper, codes = _split(blocks, 2, 2, 12, 32, 128)
    steps, offsets = _steps(d, e, packed)
    codes = _spread(codes, 4) | (_spread(upper, 1) << np.uint8(4))
    return _numbers(blocks, _parts(codes, steps) - offsets[:, :, None], out)


@kernel
def dequantize_q6_k(blocks, *, out=None):
    """The numbers (N, D) float32 of blocks (N, D/256·210) uint8, in `out` if it is given."""
    lower, upper, scales, d = _split(blocks, 128, 64, 16, 2)
    steps = _wide(d) * scales.view("int8").astype("float32")
    codes = _spread(lower, 4, 64) | (_spread(upper, 2) << np.uint8(4))
    return _numbers(blocks, _parts(codes, steps, less=32), out)


def _with_offsets(x, top, *, first, candidates):
    """float16 d and e (B, 2), packed s and m (B, 12) and codes (B, 256) of blocks of eight parts
    with codes up to `top`."""
    xp = array_module(x)
    parts = x.reshape(-1, 32).astype("float32", copy=False).T  # (32, parts)
    with np.errstate(all="ignore"):
        scales, offsets, codes = _offset_fit(parts, top, first=first, candidates=candidates)
        d, s, steps = _six_bits(scales.reshape(-1, 8))
        e, m, offsets = _six_bits(offsets.reshape(-1, 8))
        again = xp.clip(_nearest((parts + offsets) / steps), 0, top)
    codes = xp.where(steps == 0, codes, again).astype("uint8").T.reshape(-1, BLOCK)
    packed = [s[:, :4] | (s[:, 4:] >> 4) << 6, m[:, :4] | (m[:, 4:] >> 4) << 6]
    packed.append((s[:, 4:] & 15) | (m[:, 4:] & 15) << 4)
    return d, e, xp.concatenate(packed, axis=1), codes


def _six_bits(scales):
    """float16 (B, 2) and 6 bits (B, 8) for positive scales (B, 8), and their products (B·8,)."""
    xp = array_module(scales)
    largest = xp.where(scales > 0, scales, F(0)).max(axis=1, keepdims=True)
    inverse = xp.where(largest > 0, F(63) / largest, F(0))
    small = xp.minimum(_nearest(inverse * scales).astype("uint8"), np.uint8(63))
    half = _halves(largest / F(63))
    return half, small, (_wide(half) * small.astype("float32")).reshape(-1)


def _offset_fit(parts, top, *, first, candidates):
    """Scales (P,), offsets (P,) and codes (32, P) of parts x (32, P): of x ≈ q·scale − offset with
    codes up to `top` and no negative offset, the best found.

    Candidates for the inverse of the scale are (top + first + i/10)/(max − lowest), each of which
    gives codes, and these the scale and lowest number of the least squares weighted with
    |x| + √mean x². Where one is better than those before, its lowest number is used from there on.
    """
    xp = array_module(parts)
    weights = xp.sqrt(_in_order(parts * parts) / F(32)) + xp.abs(parts)
    sum_w, sum_x = _in_order(weights), _in_order(weights * parts)
    lowest, highest = xp.minimum(parts.min(axis=0), F(0)), parts.max(axis=0)
    inverse = F(top) / (highest - lowest)
    scale = F(1) / inverse
    codes = xp.clip(_nearest(inverse * (parts - lowest)), 0, top)
    best = _error(parts, weights, codes, scale, lowest)
    for i in range(candidates):
        inverse = (F(first) + F(0.1) * F(i) + F(top)) / (highest - lowest)
        tried = xp.clip(_nearest(inverse * (parts - lowest)), 0, top)
        weighted = weights * tried.astype("float32")
        sum_l, sum_xl = _in_order(weighted), _in_order(weighted * parts)
        sum_l2 = _in_order(weighted * tried.astype("float32"))
        determinant = sum_w * sum_l2 - sum_l * sum_l
        new_scale = (sum_w * sum_xl - sum_x * sum_l) / determinant
        new_lowest = (sum_l2 * sum_x - sum_l * sum_xl) / determinant
        new_scale = xp.where(new_lowest > 0, sum_xl / sum_l2, new_scale)
        new_lowest = xp.where(new_lowest > 0, F(0), new_lowest)
        error = _error(parts, weights, tried, new_scale, new_lowest)
        better = (determinant > 0) & (error < best)
        codes, best = xp.where(better, tried, codes), xp.where(better, error, best)
        scale = xp.where(better, new_scale, scale)
        lowest = xp.where(better, new_lowest, lowest)
    return scale, -lowest, codes


def _error(parts, weights, codes, scale, lowest):
    difference = scale * codes.astype("float32") + lowest - parts
    return _in_order(weights * (difference * difference))


def _symmetric_fit(parts):
    """Scales (P,) and codes (16, P) of parts x (16, P): of x ≈ (q − 32)·scale the best found.

    Candidates for the inverse of the scale are −(32 + i/10)/peak, with the first number of the
    largest magnitude for the peak, each of which gives codes, and these the scale of the least
    squares weighted with x².
    """
    xp = array_module(parts)
    peak = xp.take_along_axis(parts, xp.abs(parts).argmax(axis=0)[None], axis=0)[0]
    weights = parts * parts
    weighted = weights * parts

    def tried(inverse):
        codes = xp.clip(_nearest(inverse * parts), -32, 31)
        floats = codes.astype("float32")
        return codes, _in_order(weighted * floats), _in_order(weights * floats * floats)

    codes, sum_xl, sum_l2 = tried(F(-32) / peak)
    scale = xp.where(sum_l2 == 0, F(0), sum_xl / sum_l2)
    best = scale * sum_xl
    for i in (*range(-9, 0), *range(1, 10)):
        found, sum_xl, sum_l2 = tried(-(F(32) + F(0.1) * F(i)) / peak)
        better = (sum_l2 > 0) & (sum_xl * sum_xl > best * sum_l2)
        codes = xp.where(better, found, codes)
        scale = xp.where(better, sum_xl / sum_l2, scale)
        best = xp.where(better, scale * sum_xl, best)
    empty = xp.abs(peak) < TINY
    return xp.where(empty, F(0), scale), xp.where(empty, 0, codes + 32)


def _in_order(terms):
    """The sums (P,) of terms (n, P), added one after the other."""
    total = terms[0] + F(0)
    for term in terms[1:]:
        total += term
    return total


def _nearest(x):
    """The nearest integers to x float32, a half to the even one, if |x| < 2²²; int32.

    A number plus 1.5·2²³ has the integer in its lowest 22 bits; ggml looks at 23 of them, so what
    is larger, infinite or NaN has a result as well.
    """
    return ((x + _ROUNDER).view("int32") & 0x7FFFFF) - 0x400000


def _strongest(scales):
    """Of scales (B, n) the first of the largest magnitude (B, 1); NaN counts as 0."""
    xp = array_module(scales)
    sizes = xp.where(xp.isnan(scales), F(0), xp.abs(scales))
    found = xp.take_along_axis(scales, sizes.argmax(axis=1)[:, None], axis=1)
    return xp.where(xp.isnan(found), F(0), found)


def _paired(codes):
    """Codes (B, 256) below 16 in bytes (B, 128): those of two parts in the same 32 bytes."""
    pairs = codes.reshape(-1, 4, 2, 32)
    return (pairs[:, :, 0] | (pairs[:, :, 1] << np.uint8(4))).reshape(-1, 128)


def _gathered(planes, bits):
    """Numbers of few bits (…, n, k) in k bytes, the first in the lowest bits; flat for a block."""
    xp = array_module(planes)
    shifts = xp.arange(0, 8, bits, dtype="uint8")[:, None]
    return xp.bitwise_or.reduce(planes << shifts, axis=-2).reshape(len(planes), -1)


def _spread(stored, bits, size=32):
    """Numbers of few bits (B, n·8/bits) of bytes (B, n): of each `size` bytes the lowest bits come
    first."""
    shifts = array_module(stored).arange(0, 8, bits, dtype="uint8")[:, None]
    planes = (stored.reshape(len(stored), -1, 1, size) >> shifts) & np.uint8(2**bits - 1)
    return planes.reshape(len(stored), -1)


def _steps(d, e, packed):
    """Steps and offsets (B, 8) of parts whose s and m are packed: of the first four parts in the
    lower six bits of bytes, of the others four bits in the last bytes and two in the upper bits."""
    xp = array_module(packed)
    s, m, both = packed[:, :4], packed[:, 4:8], packed[:, 8:]
    low = np.uint8(15)
    s = xp.concatenate([s & np.uint8(63), both & low | (s >> np.uint8(6)) << np.uint8(4)], axis=1)
    m = xp.concatenate(
        [m & np.uint8(63), both >> np.uint8(4) | (m >> np.uint8(6)) << np.uint8(4)], axis=1
    )
    return _wide(d) * s.astype("float32"), _wide(e) * m.astype("float32")


def _parts(codes, steps, *, less=0):
    """(q − less)·step (B, parts, …) for codes (B, 256) and the steps (B, parts) of their parts."""
    codes = codes.reshape(*steps.shape, BLOCK // steps.shape[1]).astype("float32")
    return (codes - F(less)) * steps[:, :, None]
