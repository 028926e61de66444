"""`kernels.parts`: pieces in parallel; in NF4 a table gives both numbers of a byte at once."""

import numba
import numpy as np

from entrenar_core.kernels.cpu.compile import F, exactly, inner_exactly
from entrenar_core.kernels.cpu.lanes import read, write
from entrenar_core.kernels.cpu.threads import share_out
from entrenar_core.kernels.cpu.vectors import (
    F32,
    I8,
    I64,
    INTEGER,
    counting,
    get_thread_id,
    place,
    routine,
)
from entrenar_core.kernels.nf4 import ENTRIES
from entrenar_core.kernels.registry import override

PIECE = 4096
"""About so many elements are one piece of the work."""

TOGETHER = 8
"""Bytes that are decoded at a time."""

FLOAT16, BFLOAT16 = 1, 2
ROUNDINGS = {"float32": 0, "float16": FLOAT16, "bfloat16": BFLOAT16}

PAIRS = np.stack([np.repeat(ENTRIES, 16), np.tile(ENTRIES, 16)], axis=1)
"""The two entries of each byte: (256, 2)."""

U = np.uint32


@routine(INTEGER, INTEGER, INTEGER, INTEGER, INTEGER, INTEGER)
def decode_nf4(builder, codes, scales, pairs, target, blocks, groups):
    """Blocks of `groups` times `TOGETHER` bytes at `codes` as float32 numbers at `target`."""
    with counting(builder, blocks) as b:
        scale = read(builder, place(builder, scales, b, 4), F32).spread(2 * TOGETHER)
        begin = builder.mul(b, groups)
        with counting(builder, groups) as i:
            group = builder.add(begin, i)
            source = place(builder, codes, group, TOGETHER)
            found = [_pair(builder, builder.add(source, I64(k)), pairs) for k in range(TOGETHER)]
            while len(found) > 1:
                found = [x.joined(y) for x, y in zip(found[::2], found[1::2], strict=True)]
            write(found[0] * scale, place(builder, target, group, 8 * TOGETHER))


def _pair(builder, at, pairs):
    """The two entries of the byte at an address."""
    code = builder.zext(read(builder, at, I8).value, I64)
    return read(builder, place(builder, pairs, code, 8), F32, 2)


@inner_exactly
def _to_bfloat16(x):
    bits = x.view(np.uint32)
    for i in range(bits.size):
        b = bits[i]
        half = U(U(0x7FFF) + U((b >> U(16)) & U(1)))
        near = U(U(b + half) & U(0xFFFF0000))
        bits[i] = b if U(b & U(0x7FFFFFFF)) > U(0x7F800000) else near  # NaN as it is


@inner_exactly
def _to_float16(x):
    bits = x.view(np.uint32)
    for i in range(bits.size):
        b = bits[i]
        size = U(b & U(0x7FFFFFFF))
        half = U(U(0xFFF) + U((size >> U(13)) & U(1)))
        near = U(U(size + half) & U(0xFFFFE000))
        near = U(0x7F800000) if near >= U(0x47800000) else near  # 65,536 and beyond: infinite
        # beside 0.5 one place is that of the smallest float16
        steps = np.int32(np.float32(size.view(np.float32) + F(0.5)).view(np.int32) - 0x3F000000)
        tiny = np.float32(F(steps) * F(2.0**-24)).view(np.uint32)
        near = tiny if size < U(0x38800000) else near
        near = size if size > U(0x7F800000) else near  # NaN as it is
        bits[i] = U(near | U(b & U(0x80000000)))


@inner_exactly
def _fill(codes, scales, pairs, block, rounding, start, begin, out):
    """What `out`, whose first element is number `start`, has of the blocks from `begin` on, one for
    each of `scales`."""
    end = start + out.size
    low, high = max(start, begin * block), min(end, (begin + scales.size) * block)
    first, last = -(-low // block), high // block  # whole blocks
    if first < last:
        decode_nf4(
            codes.ctypes.data + first * block // 2, scales.ctypes.data + 4 * (first - begin),
            pairs.ctypes.data, out.ctypes.data + 4 * (first * block - start), last - first,
            block // (2 * TOGETHER),
        )  # fmt: skip
    for at in range(low, min(high, first * block)):
        out[at - start] = pairs[codes[at // 2], at % 2] * scales[at // block - begin]
    for at in range(max(low, first * block, last * block), high):
        out[at - start] = pairs[codes[at // 2], at % 2] * scales[at // block - begin]
    if rounding == FLOAT16:
        _to_float16(out[low - start : high - start])
    elif rounding == BFLOAT16:
        _to_bfloat16(out[low - start : high - start])


@inner_exactly
def _plain_pieces(first, last, codes, scales, pairs, block, rounding, start, out, piece):
    begin, end = start // block, (start + out.size + block - 1) // block
    for low in range(begin + first * piece, min(end, begin + last * piece), piece):
        high = min(end, low + piece)
        _fill(codes, scales[low:high], pairs, block, rounding, start, low, out)


@inner_exactly
def _nested_pieces(
    first, last, codes, scales, absmax, entries, pairs, block, nested, offset, rounding, start, out,
    rooms,
):  # fmt: skip
    begin, end = start // block, (start + out.size + block - 1) // block
    room = rooms[get_thread_id()]
    piece = room.size
    for low in range(begin + first * piece, min(end, begin + last * piece), piece):
        wide = room[: min(end - low, piece)]
        at = low
        while at < low + wide.size:
            stop = min(low + wide.size, (at // nested + 1) * nested)
            size = absmax[at // nested]
            for i in range(at, stop):
                wide[i - low] = F(entries[scales[i]] * size) + offset
            at = stop
        _fill(codes, wide, pairs, block, rounding, start, low, out)


@inner_exactly
def _pieces(block, start, size, piece):
    """How many pieces of so many blocks some elements are in."""
    begin, end = start // block, (start + size + block - 1) // block
    return (end - begin + piece - 1) // piece


@exactly
def _plain(codes, scales, pairs, block, rounding, start, out, piece):
    told = (codes, scales, pairs, block, rounding, start, out, piece)
    share_out(_plain_pieces, _pieces(block, start, out.size, piece), out.size, told)


@exactly
def _nested(
    codes, scales, absmax, entries, pairs, block, nested, offset, rounding, start, out, rooms
):  # fmt: skip
    told = (
        codes, scales, absmax, entries, pairs, block, nested, offset, rounding, start, out, rooms
    )  # fmt: skip
    share_out(_nested_pieces, _pieces(block, start, out.size, rooms.shape[1]), out.size, told)


@override("parts.nf4_part", "uint8")
def nf4_part(codes, scales, *, block, dtype, start, out):
    piece = max(1, PIECE // block)
    _plain(codes, scales, PAIRS, block, ROUNDINGS[dtype], start, out, piece)
    return out


@override("parts.nested_nf4_part", "uint8")
def nested_nf4_part(
    codes, scales, absmax, entries, *, block, nested, offset, dtype, start, out
):  # fmt: skip
    rooms = np.empty((numba.get_num_threads(), max(1, PIECE // block)), np.float32)
    _nested(
        codes, scales, absmax, entries, PAIRS, block, nested, F(offset), ROUNDINGS[dtype], start,
        out, rooms,
    )  # fmt: skip
    return out


@inner_exactly
def _bytes_to_floats(data, offset, scale, target):
    for i in range(target.size):
        target[i] = (F(data[i]) + offset) * scale


@inner_exactly
def _bits_to_floats(data, bits, at, offset, scale, target):
    mask, last = np.int64((1 << bits) - 1), data.size - 1
    for i in range(target.size):
        place = (at + i) * bits
        byte = place >> 3
        both = np.int64(data[byte]) | (np.int64(data[min(byte + 1, last)]) << 8)
        target[i] = (F((both >> (place & 7)) & mask) + offset) * scale


@inner_exactly
def _affine_pieces(first, last, data, scale, zero, bits, low, length, start, out):
    at, end = start + first * PIECE, start + min(out.size, last * PIECE)
    while at < end:
        each = at // length
        stop = min(end, each * length + length)
        offset, target = low - F(zero[each]), out[at - start : stop - start]
        if bits == 8:
            _bytes_to_floats(data[at:stop], offset, scale[each], target)
        else:
            _bits_to_floats(data, bits, at, offset, scale[each], target)
        at = stop


@exactly
def _affine(data, scale, zero, bits, low, length, start, out):
    told = (data, scale, zero, bits, low, length, start, out)
    share_out(_affine_pieces, (out.size + PIECE - 1) // PIECE, out.size, told)


@override("parts.affine_part", "uint8")
def affine_part(data, scale, zero, *, bits, low, length, start, out):
    _affine(data, scale, zero, bits, F(low), length, start, out)
    return out
