"""`kernels.blocks`: a block is one vector of 32 numbers."""

import math

from entrenar_core.kernels.cpu.block_loops import (
    decoded,
    decoder,
    encoded,
    encoder,
    field,
    scale_at,
)
from entrenar_core.kernels.cpu.compile import exactly, inner_exactly
from entrenar_core.kernels.cpu.lanes import (
    Variable,
    choose,
    counted,
    least,
    most,
    most_bits,
    to_half,
)
from entrenar_core.kernels.cpu.threads import share_out
from entrenar_core.kernels.cpu.vectors import I8, I32
from entrenar_core.kernels.registry import override

BLOCK = 32
SIGN = 1 << 31


# --- a block's scale and codes -------------------------------------------------------------------


def _peak(x):
    """The first number of the largest magnitude."""
    bits = x.bits()
    # integers as floats are, among numbers of one sign: the largest positive number's bits are the
    # greatest signed integer, the largest negative one's the greatest without a sign
    positive, negative = bits.folded(most), bits.folded(most_bits)
    size = choose(negative < 0, negative & ~SIGN, -1)
    found = Variable(choose(positive > size, positive, negative))
    with x.builder.if_then(positive.equals(size).value, likely=False):
        there = bits.equals(positive.spread(BLOCK)).bits()
        either = there | bits.equals(negative.spread(BLOCK)).bits()
        first = either & (either.like(0) - either)
        found.set(choose((there & first).equals(0), negative, positive))
    return found.get().as_float()


def _least(x):
    """The least number, and of zeros of both signs the first."""
    found = Variable(x.folded(least))
    with x.builder.if_then(found.get().equals(0.0).value, likely=False):
        zeros = x.equals(0.0).bits()
        first = zeros & (zeros.like(0) - zeros)
        positive = ((x.bits() < 0).bits() & first).equals(0)
        found.set(choose(positive, found.get().like(0.0), -0.0))
    return found.get()


def _inverse(d):
    """`blocks._inverse` of one scale."""
    inverse = choose(d.equals(0.0), d.like(0.0), 1.0 / d)
    usable = (inverse.magnitude() < math.inf) & (d.magnitude() < math.inf)
    return choose(usable, inverse, 0.0), usable


def _around_zero(steps):
    """What measures a block whose codes begin at the peak: the scale, its inverse, and what is
    added before rounding."""

    def measure(x):
        d = (_peak(x) + 0.0) / -steps
        inverse, usable = _inverse(d)
        return d, inverse, choose(usable, d.like(steps + 0.5), 0.0)

    return measure


def _codes_around_zero(x, inverse, half, steps):
    codes = (x * inverse.spread(BLOCK) + half.spread(BLOCK)).whole()
    return least(codes, 2 * steps - 1)


def _from_least(steps):
    """What measures a block whose codes begin at the least number: the scale and that number, what
    to subtract, the inverse, and what is added before rounding."""

    def measure(x):
        m = _least(x)
        d = (x.folded(most) - m).magnitude() / steps
        inverse, usable = _inverse(d)
        # a distance may be infinite, and 0 · ∞ is no number
        return d, m, choose(usable, m, 0.0), inverse, choose(usable, m.like(0.5), 0.0)

    return measure


def _codes_from_least(x, base, inverse, half, steps):
    codes = ((x - base.spread(BLOCK)) * inverse.spread(BLOCK) + half.spread(BLOCK)).whole()
    return least(codes, steps)


def _largest(x):
    """What measures a block with signed codes: the scale and its inverse."""
    d = (x.bits() & ~SIGN).folded(most).as_float() / 127.0
    return d, _inverse(d)[0]


def _half(number):
    return to_half(number).narrow(16)


def _nibbles(codes):
    low, high = (codes & 15).halves()
    return (low | (high << 4)).narrow(8)


def _fifth_bits(codes):
    return (codes > 15).bits()


@encoder(BLOCK, 18, _around_zero(8))
def encode_q4_0(x, d, inverse, half):
    codes = _codes_around_zero(x, inverse, half, 8)
    return _half(d), _nibbles(codes)


@encoder(BLOCK, 20, _from_least(15))
def encode_q4_1(x, d, m, base, inverse, half):
    codes = _codes_from_least(x, base, inverse, half, 15)
    return _half(d), _half(m), _nibbles(codes)


@encoder(BLOCK, 22, _around_zero(16))
def encode_q5_0(x, d, inverse, half):
    codes = _codes_around_zero(x, inverse, half, 16)
    return _half(d), _fifth_bits(codes), _nibbles(codes)


@encoder(BLOCK, 24, _from_least(31))
def encode_q5_1(x, d, m, base, inverse, half):
    codes = _codes_from_least(x, base, inverse, half, 31)
    return _half(d), _half(m), _fifth_bits(codes), _nibbles(codes)


@encoder(BLOCK, 34, _largest)
def encode_q8_0(x, d, inverse):
    scaled = x * inverse.spread(BLOCK)
    # as in the reference: the number next below 0.5, with the sign of what it is added to
    half = ((scaled.bits() & SIGN) | 0x3EFFFFFF).as_float()
    return _half(d), (scaled + half).whole().narrow(8)


# --- the numbers of a block ----------------------------------------------------------------------


def _scale(builder, at, offset):
    return scale_at(builder, at, offset).spread(BLOCK)


def _both(builder, at, offset):
    nibbles = field(builder, at, offset, I8, 16)
    return (nibbles & 15).joined(nibbles >> 4).wide()


def _sixteens(builder, at, offset):
    bits = field(builder, at, offset, I32).spread(BLOCK)
    return ((bits >> counted(builder, I32, *range(BLOCK))) & 1) << 4


@decoder(BLOCK, 18)
def decode_q4_0(builder, at):
    codes = _both(builder, at, 2) - 8
    return [codes.floats() * _scale(builder, at, 0)]


@decoder(BLOCK, 20)
def decode_q4_1(builder, at):
    codes = _both(builder, at, 4)
    return [codes.floats() * _scale(builder, at, 0) + _scale(builder, at, 2)]


@decoder(BLOCK, 22)
def decode_q5_0(builder, at):
    codes = (_both(builder, at, 6) | _sixteens(builder, at, 2)) - 16
    return [codes.floats() * _scale(builder, at, 0)]


@decoder(BLOCK, 24)
def decode_q5_1(builder, at):
    codes = _both(builder, at, 8) | _sixteens(builder, at, 4)
    return [codes.floats() * _scale(builder, at, 0) + _scale(builder, at, 2)]


@decoder(BLOCK, 34)
def decode_q8_0(builder, at):
    codes = field(builder, at, 2, I8, 32).wide(signed=True)
    return [codes.floats() * _scale(builder, at, 0)]


# --- kernels -------------------------------------------------------------------------------------


@inner_exactly
def _encode_q4_0_blocks(first, last, source, target, width):
    encode_q4_0(source + first * BLOCK * width, target + first * 18, last - first, width)


@exactly
def _quantize_q4_0(source, target, blocks, width):
    share_out(_encode_q4_0_blocks, blocks, blocks * BLOCK, (source, target, width))


@inner_exactly
def _decode_q4_0_blocks(first, last, source, target, past):
    decode_q4_0(source + first * 18, target + first * 128, last - first, past)


@exactly
def _dequantize_q4_0(source, target, blocks, past):
    share_out(_decode_q4_0_blocks, blocks, blocks * BLOCK, (source, target, past))


@inner_exactly
def _encode_q4_1_blocks(first, last, source, target, width):
    encode_q4_1(source + first * BLOCK * width, target + first * 20, last - first, width)


@exactly
def _quantize_q4_1(source, target, blocks, width):
    share_out(_encode_q4_1_blocks, blocks, blocks * BLOCK, (source, target, width))


@inner_exactly
def _decode_q4_1_blocks(first, last, source, target, past):
    decode_q4_1(source + first * 20, target + first * 128, last - first, past)


@exactly
def _dequantize_q4_1(source, target, blocks, past):
    share_out(_decode_q4_1_blocks, blocks, blocks * BLOCK, (source, target, past))


@inner_exactly
def _encode_q5_0_blocks(first, last, source, target, width):
    encode_q5_0(source + first * BLOCK * width, target + first * 22, last - first, width)


@exactly
def _quantize_q5_0(source, target, blocks, width):
    share_out(_encode_q5_0_blocks, blocks, blocks * BLOCK, (source, target, width))


@inner_exactly
def _decode_q5_0_blocks(first, last, source, target, past):
    decode_q5_0(source + first * 22, target + first * 128, last - first, past)


@exactly
def _dequantize_q5_0(source, target, blocks, past):
    share_out(_decode_q5_0_blocks, blocks, blocks * BLOCK, (source, target, past))


@inner_exactly
def _encode_q5_1_blocks(first, last, source, target, width):
    encode_q5_1(source + first * BLOCK * width, target + first * 24, last - first, width)


@exactly
def _quantize_q5_1(source, target, blocks, width):
    share_out(_encode_q5_1_blocks, blocks, blocks * BLOCK, (source, target, width))


@inner_exactly
def _decode_q5_1_blocks(first, last, source, target, past):
    decode_q5_1(source + first * 24, target + first * 128, last - first, past)


@exactly
def _dequantize_q5_1(source, target, blocks, past):
    share_out(_decode_q5_1_blocks, blocks, blocks * BLOCK, (source, target, past))


@inner_exactly
def _encode_q8_0_blocks(first, last, source, target, width):
    encode_q8_0(source + first * BLOCK * width, target + first * 34, last - first, width)


@exactly
def _quantize_q8_0(source, target, blocks, width):
    share_out(_encode_q8_0_blocks, blocks, blocks * BLOCK, (source, target, width))


@inner_exactly
def _decode_q8_0_blocks(first, last, source, target, past):
    decode_q8_0(source + first * 34, target + first * 128, last - first, past)


@exactly
def _dequantize_q8_0(source, target, blocks, past):
    share_out(_decode_q8_0_blocks, blocks, blocks * BLOCK, (source, target, past))


@override("blocks.quantize_q4_0", "float32", "bfloat16")
def quantize_q4_0(x):
    return encoded(_quantize_q4_0, x, BLOCK, 18)


@override("blocks.dequantize_q4_0", "uint8")
def dequantize_q4_0(blocks, *, out=None):
    return decoded(_dequantize_q4_0, blocks, BLOCK, 18, out)


@override("blocks.quantize_q4_1", "float32", "bfloat16")
def quantize_q4_1(x):
    return encoded(_quantize_q4_1, x, BLOCK, 20)


@override("blocks.dequantize_q4_1", "uint8")
def dequantize_q4_1(blocks, *, out=None):
    return decoded(_dequantize_q4_1, blocks, BLOCK, 20, out)


@override("blocks.quantize_q5_0", "float32", "bfloat16")
def quantize_q5_0(x):
    return encoded(_quantize_q5_0, x, BLOCK, 22)


@override("blocks.dequantize_q5_0", "uint8")
def dequantize_q5_0(blocks, *, out=None):
    return decoded(_dequantize_q5_0, blocks, BLOCK, 22, out)


@override("blocks.quantize_q5_1", "float32", "bfloat16")
def quantize_q5_1(x):
    return encoded(_quantize_q5_1, x, BLOCK, 24)


@override("blocks.dequantize_q5_1", "uint8")
def dequantize_q5_1(blocks, *, out=None):
    return decoded(_dequantize_q5_1, blocks, BLOCK, 24, out)


@override("blocks.quantize_q8_0", "float32", "bfloat16")
def quantize_q8_0(x):
    return encoded(_quantize_q8_0, x, BLOCK, 34)


@override("blocks.dequantize_q8_0", "uint8")
def dequantize_q8_0(blocks, *, out=None):
    return decoded(_dequantize_q8_0, blocks, BLOCK, 34, out)
