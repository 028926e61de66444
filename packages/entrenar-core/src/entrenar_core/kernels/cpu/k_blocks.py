"""`kernels.k_blocks`: searches in 16 parts at a time, then one block after the other."""

import numba
import numpy as np

from entrenar_core.kernels.cpu.block_loops import (
    decoded,
    decoder,
    encoded,
    field,
    scale_at,
)
from entrenar_core.kernels.cpu.compile import exactly, inner_exactly
from entrenar_core.kernels.cpu.k_fits import (
    INVERSE,
    LOWEST,
    OFFSET,
    SCALE,
    clipped,
    fit_15,
    fit_31,
    fit_symmetric,
    nearest,
)
from entrenar_core.kernels.cpu.lanes import (
    choose,
    from_half,
    least,
    most,
    none_of,
    read,
    to_half,
    write,
)
from entrenar_core.kernels.cpu.threads import share_out
from entrenar_core.kernels.cpu.vector_loops import transpose
from entrenar_core.kernels.cpu.vectors import BYTES, F32, I8, I64, INTEGER, get_thread_id, routine
from entrenar_core.kernels.k_blocks import BLOCK, TINY
from entrenar_core.kernels.registry import override

ROOM = 3 * 32 * 16 + 4 * 16 + BYTES
"""Numbers of room for a search: parts, weights, codes, and what is found; with some between those
of two threads."""


# --- writing a block -----------------------------------------------------------------------------


def _found(builder, found, number, lanes):
    return read(builder, builder.add(found, I64(number * BYTES)), F32, lanes)


def _write_all(target, *parts):
    """Write the parts of a block one behind the other."""
    for part in parts:
        write(part, target)
        target = part.builder.add(target, I64(part.bytes))


def _six_bits(scales):
    """`k_blocks._six_bits` of the eight scales of a block."""
    largest = choose(scales > 0.0, scales, 0.0).folded(most)
    inverse = choose(largest > 0.0, 63.0 / largest, 0.0)
    # more than 8 bits are cut off before the comparison
    small = least(nearest(inverse.spread(8) * scales) & 255, 63)
    half = to_half(largest / 63.0)
    return half.narrow(16), small, from_half(half).spread(8) * small.floats()


def _write_with_offsets(builder, source, found, target, top):
    """Write a block of eight parts; returns their codes, 32 each, and where these are to be."""
    scales, offsets, inverse, lowest = (
        _found(builder, found, number, 8) for number in (SCALE, OFFSET, INVERSE, LOWEST)
    )
    d, s, steps = _six_bits(scales)
    e, m, offsets = _six_bits(offsets)
    (s, s_late), (m, m_late) = s.halves(), m.halves()
    packed = s | (s_late >> 4) << 6, m | (m_late >> 4) << 6, s_late & 15 | (m_late & 15) << 4
    _write_all(target, d, e, *(part.narrow(8) for part in packed))
    codes = []
    for part in range(8):
        x = read(builder, builder.add(source, I64(part * 128)), F32, 32)
        step, offset, old_inverse, old_lowest = (
            vector.lane(part).spread(32) for vector in (steps, offsets, inverse, lowest)
        )
        code = choose(step.equals(0.0), old_inverse * (x - old_lowest), (x + offset) / step)
        codes.append(clipped(code, 0, top))
    return codes, builder.add(target, I64(16))


def _pairs(codes):
    """Codes below 16, those of two parts in the same bytes."""
    return [
        (low & 15 | (high & 15) << 4).narrow(8)
        for low, high in zip(codes[::2], codes[1::2], strict=True)
    ]


@routine(INTEGER, INTEGER, INTEGER)
def write_q4_k(builder, source, found, target):
    codes, target = _write_with_offsets(builder, source, found, target, 15)
    _write_all(target, *_pairs(codes))


@routine(INTEGER, INTEGER, INTEGER)
def write_q5_k(builder, source, found, target):
    codes, target = _write_with_offsets(builder, source, found, target, 31)
    upper = codes[0] >> 4
    for part, late in enumerate(codes[1:], 1):
        upper = upper | (late >> 4) << part
    _write_all(target, upper.narrow(8), *_pairs(codes))


def _strongest(scales):
    """`k_blocks._strongest` of the 16 scales of a block."""
    found = scales.lane(0).like(0.0)
    for part in range(scales.lanes):
        scale = scales.lane(part)
        found = choose(scale.magnitude() > found.magnitude(), scale, found)
    return found


@routine(INTEGER, INTEGER, INTEGER)
def write_q6_k(builder, source, found, target):
    scales, inverse, offset = (
        _found(builder, found, number, 16) for number in (SCALE, INVERSE, OFFSET)
    )
    top = _strongest(scales)
    to_whole = -128.0 / top
    half = to_half(1.0 / to_whole)
    small = least(nearest(to_whole.spread(16) * scales), 127).narrow(8)
    steps = from_half(half).spread(16) * small.wide(signed=True).floats()
    codes = []
    for pair in range(8):
        x = read(builder, builder.add(source, I64(pair * 128)), F32, 32)
        lanes = [2 * pair] * 16 + [2 * pair + 1] * 16
        step, old_inverse, old_offset = (v.picked(*lanes) for v in (steps, inverse, offset))
        code = choose(step.equals(0.0), old_inverse * x + old_offset, x / step)
        codes.append(clipped(code, -32, 31) + 32)
    lower, upper = [], []
    for first, second, third, fourth in (codes[:4], codes[4:]):
        lower += _pairs([first, third, second, fourth])
        bits = first >> 4 | (second >> 4) << 2 | (third >> 4) << 4 | (fourth >> 4) << 6
        upper.append(bits.narrow(8))
    empty = top.magnitude() < float(TINY)
    parts = (*lower, *upper, small, half.narrow(16))
    _write_all(target, *(none_of(part, empty) for part in parts))


# --- the numbers of a block ----------------------------------------------------------------------


def _bytes(builder, at, offset, count):
    return field(builder, at, offset, I8, count)


def _steps(builder, at):
    """`k_blocks._steps` of a block that begins with d, e and the packed s and m."""
    s, m, both = (_bytes(builder, at, offset, 4) for offset in (4, 8, 12))
    s = (s & 63).joined(both & 15 | (s >> 6) << 4).wide().floats()
    m = (m & 63).joined(both >> 4 | (m >> 6) << 4).wide().floats()
    d, e = (scale_at(builder, at, offset).spread(8) for offset in (0, 2))
    return d * s, e * m


def _less_offsets(codes, steps, offsets):
    """The numbers of parts of 32, or of pairs of parts of 16."""
    size = len(codes) * 32 // steps.lanes
    for i, code in enumerate(codes):
        lanes = [(32 * i + j) // size for j in range(32)]
        yield code.wide().floats() * steps.picked(*lanes) - offsets.picked(*lanes)


def _around_zero(codes, steps, zero):
    for i, code in enumerate(codes):
        lanes = [2 * i] * 16 + [2 * i + 1] * 16
        yield (code.wide() - zero).floats() * steps.picked(*lanes)


@decoder(BLOCK, 84)
def decode_q2_k(builder, at):
    both = _bytes(builder, at, 0, 16)
    d, e = (scale_at(builder, at, offset).spread(16) for offset in (80, 82))
    stored = [_bytes(builder, at, offset, 32) for offset in (16, 48)]
    codes = [half >> shift & 3 for half in stored for shift in (0, 2, 4, 6)]
    steps, offsets = d * (both & 15).wide().floats(), e * (both >> 4).wide().floats()
    return _less_offsets(codes, steps, offsets)


@decoder(BLOCK, 110)
def decode_q3_k(builder, at):
    third, packed = _bytes(builder, at, 0, 32), _bytes(builder, at, 96, 8)
    upper = _bytes(builder, at, 104, 4)
    first, second = ((upper >> shift & 3).joined(upper >> shift + 2 & 3) << 4 for shift in (0, 4))
    scales = (packed & 15 | first).joined(packed >> 4 | second)
    steps = scale_at(builder, at, 108).spread(16) * (scales.wide() - 32).floats()
    stored = [_bytes(builder, at, offset, 32) for offset in (32, 64)]
    codes = [half >> shift & 3 for half in stored for shift in (0, 2, 4, 6)]
    codes = [code | (third >> i & 1) << 2 for i, code in enumerate(codes)]
    return _around_zero(codes, steps, 4)


@decoder(BLOCK, 144)
def decode_q4_k(builder, at):
    stored = [_bytes(builder, at, 16 + 32 * i, 32) for i in range(4)]
    codes = [code for pair in stored for code in (pair & 15, pair >> 4)]
    return _less_offsets(codes, *_steps(builder, at))


@decoder(BLOCK, 176)
def decode_q5_k(builder, at):
    upper = _bytes(builder, at, 16, 32)
    stored = [_bytes(builder, at, 48 + 32 * i, 32) for i in range(4)]
    codes = [code for pair in stored for code in (pair & 15, pair >> 4)]
    codes = [code | (upper >> i & 1) << 4 for i, code in enumerate(codes)]
    return _less_offsets(codes, *_steps(builder, at))


@decoder(BLOCK, 210)
def decode_q6_k(builder, at):
    steps = (
        scale_at(builder, at, 208).spread(16)
        * _bytes(builder, at, 192, 16).wide(signed=True).floats()
    )
    codes = []
    for half in range(2):
        lower = [_bytes(builder, at, 64 * half + offset, 32) for offset in (0, 32)]
        upper = _bytes(builder, at, 128 + 32 * half, 32)
        codes += [
            code | (upper >> 2 * i & 3) << 4
            for i, code in enumerate([lower[0] & 15, lower[1] & 15, lower[0] >> 4, lower[1] >> 4])
        ]
    return _around_zero(codes, steps, 32)


# --- kernels -------------------------------------------------------------------------------------


@inner_exactly
def _gather(source, parts, room):
    """Transpose up to 16 parts of 32 numbers."""
    transpose(source, 128, parts, room, BYTES, np.float32(1))
    transpose(source + BYTES, 128, parts, room + 16 * BYTES, BYTES, np.float32(1))


def _searched(run, x, size):
    """`encoded` by `run`, which is given room for each thread."""
    room = np.empty((numba.get_num_threads(), ROOM), np.float32)
    at = room.ctypes.data
    return encoded(
        lambda source, target, blocks, _: run(source, target, blocks, at), x, BLOCK, size
    )


@inner_exactly
def _encode_q4_k_pairs(first, last, source, target, blocks, room):
    parts = room + get_thread_id() * ROOM * 4
    weights, codes, found = parts + 2048, parts + 4096, parts + 6144
    for i in range(2 * first, min(2 * last, blocks), 2):
        both = min(2, blocks - i)
        _gather(source + i * 1024, 8 * both, parts)
        fit_15(parts, weights, codes, found)
        for j in range(both):
            write_q4_k(source + (i + j) * 1024, found + j * 32, target + (i + j) * 144)


@exactly
def _quantize_q4_k(source, target, blocks, room):
    share_out(_encode_q4_k_pairs, (blocks + 1) // 2, blocks * BLOCK, (source, target, blocks, room))


@inner_exactly
def _encode_q5_k_pairs(first, last, source, target, blocks, room):
    parts = room + get_thread_id() * ROOM * 4
    weights, codes, found = parts + 2048, parts + 4096, parts + 6144
    for i in range(2 * first, min(2 * last, blocks), 2):
        both = min(2, blocks - i)
        _gather(source + i * 1024, 8 * both, parts)
        fit_31(parts, weights, codes, found)
        for j in range(both):
            write_q5_k(source + (i + j) * 1024, found + j * 32, target + (i + j) * 176)


@exactly
def _quantize_q5_k(source, target, blocks, room):
    share_out(_encode_q5_k_pairs, (blocks + 1) // 2, blocks * BLOCK, (source, target, blocks, room))


@inner_exactly
def _encode_q6_k_blocks(first, last, source, target, room):
    parts = room + get_thread_id() * ROOM * 4
    powers, found = parts + 1024, parts + 3072
    for i in range(first, last):
        transpose(source + i * 1024, BYTES, 16, parts, BYTES, np.float32(1))
        fit_symmetric(parts, powers, found)
        write_q6_k(source + i * 1024, found, target + i * 210)


@exactly
def _quantize_q6_k(source, target, blocks, room):
    share_out(_encode_q6_k_blocks, blocks, blocks * BLOCK, (source, target, room))


@inner_exactly
def _decode_q2_k_blocks(first, last, source, target, past):
    decode_q2_k(source + first * 84, target + first * 1024, last - first, past)


@exactly
def _dequantize_q2_k(source, target, blocks, past):
    share_out(_decode_q2_k_blocks, blocks, blocks * BLOCK, (source, target, past))


@inner_exactly
def _decode_q3_k_blocks(first, last, source, target, past):
    decode_q3_k(source + first * 110, target + first * 1024, last - first, past)


@exactly
def _dequantize_q3_k(source, target, blocks, past):
    share_out(_decode_q3_k_blocks, blocks, blocks * BLOCK, (source, target, past))


@inner_exactly
def _decode_q4_k_blocks(first, last, source, target, past):
    decode_q4_k(source + first * 144, target + first * 1024, last - first, past)


@exactly
def _dequantize_q4_k(source, target, blocks, past):
    share_out(_decode_q4_k_blocks, blocks, blocks * BLOCK, (source, target, past))


@inner_exactly
def _decode_q5_k_blocks(first, last, source, target, past):
    decode_q5_k(source + first * 176, target + first * 1024, last - first, past)


@exactly
def _dequantize_q5_k(source, target, blocks, past):
    share_out(_decode_q5_k_blocks, blocks, blocks * BLOCK, (source, target, past))


@inner_exactly
def _decode_q6_k_blocks(first, last, source, target, past):
    decode_q6_k(source + first * 210, target + first * 1024, last - first, past)


@exactly
def _dequantize_q6_k(source, target, blocks, past):
    share_out(_decode_q6_k_blocks, blocks, blocks * BLOCK, (source, target, past))


@override("k_blocks.dequantize_q2_k", "uint8")
def dequantize_q2_k(blocks, *, out=None):
    return decoded(_dequantize_q2_k, blocks, BLOCK, 84, out)


@override("k_blocks.dequantize_q3_k", "uint8")
def dequantize_q3_k(blocks, *, out=None):
    return decoded(_dequantize_q3_k, blocks, BLOCK, 110, out)


@override("k_blocks.quantize_q4_k", "float32")
def quantize_q4_k(x):
    return _searched(_quantize_q4_k, x, 144)


@override("k_blocks.dequantize_q4_k", "uint8")
def dequantize_q4_k(blocks, *, out=None):
    return decoded(_dequantize_q4_k, blocks, BLOCK, 144, out)


@override("k_blocks.quantize_q5_k", "float32")
def quantize_q5_k(x):
    return _searched(_quantize_q5_k, x, 176)


@override("k_blocks.dequantize_q5_k", "uint8")
def dequantize_q5_k(blocks, *, out=None):
    return decoded(_dequantize_q5_k, blocks, BLOCK, 176, out)


@override("k_blocks.quantize_q6_k", "float32")
def quantize_q6_k(x):
    return _searched(_quantize_q6_k, x, 210)


@override("k_blocks.dequantize_q6_k", "uint8")
def dequantize_q6_k(blocks, *, out=None):
    return decoded(_dequantize_q6_k, blocks, BLOCK, 210, out)
