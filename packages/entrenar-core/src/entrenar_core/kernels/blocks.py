"""ggml's simple block formats: 32 numbers in a row share a float16 scale and, in some, an offset.

| format | bytes of a block | a code q stands for |
| --- | --- | --- |
| q4_0 | d, 16 of codes | (q − 8)·d |
| q4_1 | d, m, 16 of codes | q·d + m |
| q5_0 | d, 4 of fifth bits, 16 of codes | (q − 16)·d |
| q5_1 | d, m, 4 of fifth bits, 16 of codes | q·d + m |
| q8_0 | d, 32 of codes | q·d, q signed |

d and m are float16. In 16 bytes of codes, byte j has the lower four bits of code j in its lower
half and those of code j + 16 in its upper one; fifth bits are in the order of the codes, the lowest
first.
Source: https://github.com/ggml-org/llama.cpp, `ggml-common.h` and `ggml-quants.c`. Every operation
is rounded by itself to float32, so that the bytes are the same everywhere.

Numbers have to be finite. A scale is not: it is infinite where it is beyond float16, and 0 where it
is below. Where the inverse of a scale is beyond float32, all codes of the block are 0. Zeros have
the signs that ggml gives them: −0 is as good as 0 for a peak, and of the least numbers the first is
taken.
"""

import numpy as np

from entrenar_core.kernels.registry import array_module, kernel

BLOCK = 32


@kernel
def quantize_q4_0(x):
    """x (N, D) float32 or bfloat16, D a multiple of 32, as blocks (N, D/32·18) uint8.

    d = peak/−8, where the peak is the first number of the largest magnitude, with its sign: it gets
    the code 0, so that the side of zero that reaches further has one code more.
    """
    d, codes = _around_zero(x, 8)
    return _joined(x, _halves(d), _nibbles(codes))


@kernel
def quantize_q4_1(x):
    """x (N, D) float32 or bfloat16, D a multiple of 32, as blocks (N, D/32·20) uint8.

    m is the least number, d a fifteenth of the distance to the largest.
    """
    d, m, codes = _from_least(x, 15)
    return _joined(x, _halves(d), _halves(m), _nibbles(codes))


@kernel
def quantize_q5_0(x):
    """x (N, D) float32 or bfloat16, D a multiple of 32, as blocks (N, D/32·22) uint8.

    As q4_0, with d = peak/−16.
    """
    d, codes = _around_zero(x, 16)
    return _joined(x, _halves(d), _fifth_bits(codes), _nibbles(codes))


@kernel
def quantize_q5_1(x):
    """x (N, D) float32 or bfloat16, D a multiple of 32, as blocks (N, D/32·24) uint8.

    As q4_1, with 31 steps.
    """
    d, m, codes = _from_least(x, 31)
    return _joined(x, _halves(d), _halves(m), _fifth_bits(codes), _nibbles(codes))


@kernel
def quantize_q8_0(x):
    """x (N, D) float32 or bfloat16, D a multiple of 32, as blocks (N, D/32·34) uint8.

    d = max |x|/127; codes are rounded to the nearest, halves away from zero.
    """
    xp = array_module(x)
    blocks = x.reshape(-1, BLOCK).astype("float32", copy=False)
    d = xp.abs(blocks).max(axis=1, keepdims=True) / np.float32(127)
    inverse, usable = _inverse(d)
    scaled = blocks * inverse
    # 0.5 would round the number next below a half up; the number next below 0.5 rounds every half
    # away from zero, because the sum is a tie that goes to the even integer
    half = xp.copysign(np.nextafter(np.float32(0.5), np.float32(0)), scaled)
    codes = xp.where(usable, xp.trunc(scaled + half), 0).astype("int8")
    return _joined(x, _halves(d), codes.view("uint8"))


@kernel
def dequantize_q4_0(blocks, *, out=None):
    """The numbers (N, D) float32 of blocks (N, D/32·18) uint8, in `out` if it is given."""
    d, codes = _split(blocks, 2, 16)
    return _numbers(blocks, (_both(codes) - np.float32(8)) * _wide(d), out)


@kernel
def dequantize_q4_1(blocks, *, out=None):
    """The numbers (N, D) float32 of blocks (N, D/32·20) uint8, in `out` if it is given."""
    d, m, codes = _split(blocks, 2, 2, 16)
    return _numbers(blocks, _both(codes) * _wide(d) + _wide(m), out)


@kernel
def dequantize_q5_0(blocks, *, out=None):
    """The numbers (N, D) float32 of blocks (N, D/32·22) uint8, in `out` if it is given."""
    d, fifth, codes = _split(blocks, 2, 4, 16)
    return _numbers(blocks, (_both(codes) + _sixteens(fifth) - np.float32(16)) * _wide(d), out)


@kernel
def dequantize_q5_1(blocks, *, out=None):
    """The numbers (N, D) float32 of blocks (N, D/32·24) uint8, in `out` if it is given."""
    d, m, fifth, codes = _split(blocks, 2, 2, 4, 16)
    return _numbers(blocks, (_both(codes) + _sixteens(fifth)) * _wide(d) + _wide(m), out)


@kernel
def dequantize_q8_0(blocks, *, out=None):
    """The numbers (N, D) float32 of blocks (N, D/32·34) uint8, in `out` if it is given."""
    d, codes = _split(blocks, 2, 32)
    return _numbers(blocks, codes.view("int8").astype("float32") * _wide(d), out)


def _around_zero(x, steps):
    """Scales (B, 1) and codes (B, 32) of blocks whose peak gets the code 0 and zero `steps`."""
    xp = array_module(x)
    blocks = x.reshape(-1, BLOCK).astype("float32", copy=False)
    at = xp.abs(blocks).argmax(axis=1)[:, None]
    peak = xp.take_along_axis(blocks, at, axis=1) + np.float32(0)  # −0 is 0 here
    d = peak / np.float32(-steps)
    inverse, usable = _inverse(d)
    codes = blocks * inverse + np.float32(steps + 0.5)
    codes = xp.where(usable, codes, 0).astype("uint8")  # positive, so it rounds the halves up
    return d, xp.minimum(codes, np.uint8(2 * steps - 1))


def _from_least(x, steps):
    """Scales (B, 1), least numbers (B, 1) and codes (B, 32) of blocks of `steps` equal steps."""
    xp = array_module(x)
    blocks = x.reshape(-1, BLOCK).astype("float32", copy=False)
    # of zeros of both signs the first is the least
    least = xp.take_along_axis(blocks, blocks.argmin(axis=1)[:, None], axis=1)
    with np.errstate(over="ignore", invalid="ignore"):
        d = xp.abs(blocks.max(axis=1, keepdims=True) - least) / np.float32(steps)
        inverse, usable = _inverse(d)
        codes = (blocks - least) * inverse + np.float32(0.5)
    codes = xp.where(usable, codes, 0).astype("uint8")
    return d, least, xp.minimum(codes, np.uint8(steps))


def _inverse(d):
    """1/d and where it can be used: 0 for 0, else where both are finite."""
    xp = array_module(d)
    with np.errstate(divide="ignore", over="ignore"):
        inverse = xp.where(d == 0, np.float32(0), np.float32(1) / d)
    usable = xp.isfinite(inverse) & xp.isfinite(d)
    return xp.where(usable, inverse, np.float32(0)), usable


def _halves(scales):
    """float16 of (B, 1) float32, as bytes (B, 2)."""
    with np.errstate(over="ignore"):
        return scales.astype("<f2").view("uint8")


def _wide(halves):
    """float32 (B, 1) of float16 as bytes (B, 2)."""
    return array_module(halves).ascontiguousarray(halves).view("<f2").astype("float32")


def _nibbles(codes):
    """The lower four bits of codes (B, 32) in bytes (B, 16)."""
    return (codes[:, :16] & np.uint8(15)) | (codes[:, 16:] << np.uint8(4))


def _both(nibbles):
    """Codes below 16 (B, 32) float32 of bytes (B, 16)."""
    xp = array_module(nibbles)
    codes = xp.concatenate([nibbles & np.uint8(15), nibbles >> np.uint8(4)], axis=1)
    return codes.astype("float32")


def _fifth_bits(codes):
    """Bit 4 of codes (B, 32) in bytes (B, 4)."""
    return array_module(codes).packbits(codes >> np.uint8(4), axis=1, bitorder="little")


def _sixteens(fifth):
    """16 or 0, (B, 32) float32, for bits in bytes (B, 4)."""
    bits = array_module(fifth).unpackbits(fifth, axis=1, bitorder="little")
    return bits.astype("float32") * np.float32(16)


def _joined(x, *parts, block=BLOCK):
    """The parts of blocks, (B, …) bytes each, one behind the other in rows as x has them."""
    xp = array_module(x)
    width = sum(part.shape[1] for part in parts)
    return xp.concatenate(parts, axis=1).reshape(len(x), x.shape[1] // block * width)


def _split(blocks, *sizes):
    """The parts (B, size) of blocks in rows."""
    rows, ends = blocks.reshape(-1, sum(sizes)), np.cumsum(sizes)
    return [rows[:, end - size : end] for size, end in zip(sizes, ends, strict=True)]


def _numbers(blocks, numbers, out):
    """Numbers (B, 32) in as many rows as the blocks are in, in `out` unless it is None."""
    columns = numbers.size // len(blocks) if len(blocks) else 0
    found = numbers.reshape(len(blocks), columns)
    if out is None:
        return found
    out[...] = found
    return out
