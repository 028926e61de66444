"""Block formats by their definition: where the bits are, what is refused, how large errors get."""

import struct

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from block_inputs import BLOCK_INPUTS, stored_blocks
from entrenar_common.errors import NumericsError, ShapeError, UnsupportedError
from entrenar_core.kernels.registry import Kernel
from entrenar_core.quant.base import dequantize, quantize
from entrenar_core.quant.blocks import BY_NUMBER, ENCODED, BlockFormat

CODED = [form for form in BY_NUMBER.values() if isinstance(form.decode, Kernel)]
WRITTEN = [form for form in CODED if form.encode]
each_coded = pytest.mark.parametrize("form", CODED, ids=lambda form: form.name)
each_written = pytest.mark.parametrize("form", WRITTEN, ids=lambda form: form.name)


def half(stored, at):
    return struct.unpack_from("<e", stored, at)[0]


def bit(stored, number):
    return stored[number // 8] >> number % 8 & 1


def six_bits(packed, part):
    """s and m of a part of q4_k and q5_k."""
    if part < 4:
        return packed[part] & 63, packed[part + 4] & 63
    low = packed[part + 4]
    return low & 15 | packed[part - 4] >> 6 << 4, low >> 4 | packed[part] >> 6 << 4


def six_bits_of_q3(packed, part):
    return (
        packed[part % 8] >> 4 * (part // 8) & 15 | (packed[8 + part % 4] >> part // 4 * 2 & 3) << 4
    )


def nibble(codes, j):
    """Code j where two parts of 32 share 32 bytes."""
    return codes[j // 64 * 32 + j % 32] >> 4 * (j // 32 % 2) & 15


def quarter(codes, j):
    """Code j where four parts of 32 share 32 bytes."""
    return codes[j // 128 * 32 + j % 32] >> 2 * (j // 32 % 4) & 3


def with_offset(stored, j, q):
    s, m = six_bits(stored[4:16], j // 32)
    return q * (half(stored, 0) * s) - half(stored, 2) * m


def of_q2(stored, j):
    s, m = stored[j // 16] & 15, stored[j // 16] >> 4
    return quarter(stored[16:80], j) * (half(stored, 80) * s) - half(stored, 82) * m


def of_q3(stored, j):
    q = quarter(stored[32:96], j) + 4 * (stored[j % 32] >> j // 32 & 1) - 4
    return q * (half(stored, 108) * (six_bits_of_q3(stored[96:108], j // 16) - 32))


def of_q6(stored, j):
    low = stored[j // 128 * 64 + j % 64] >> 4 * (j // 64 % 2) & 15
    q = low | quarter(stored[128:192], j) << 4
    return (q - 32) * (half(stored, 208) * struct.unpack_from("b", stored, 192 + j // 16)[0])


NUMBER = {
    "q4_0": lambda b, j: (b[2 + j % 16] >> j // 16 * 4 & 15) * half(b, 0) - 8 * half(b, 0),
    "q4_1": lambda b, j: (b[4 + j % 16] >> j // 16 * 4 & 15) * half(b, 0) + half(b, 2),
    "q5_0": lambda b, j: (
        ((b[6 + j % 16] >> j // 16 * 4 & 15) + 16 * bit(b[2:6], j) - 16) * half(b, 0)
    ),
    "q5_1": lambda b, j: (
        ((b[8 + j % 16] >> j // 16 * 4 & 15) + 16 * bit(b[4:8], j)) * half(b, 0) + half(b, 2)
    ),
    "q8_0": lambda b, j: struct.unpack_from("b", b, 2 + j)[0] * half(b, 0),
    "q2_k": of_q2,
    "q3_k": of_q3,
    "q4_k": lambda b, j: with_offset(b, j, nibble(b[16:], j)),
    "q5_k": lambda b, j: with_offset(
        b, j, nibble(b[48:], j) + 16 * (b[16 + j % 32] >> j // 32 & 1)
    ),
    "q6_k": of_q6,
}
"""Number j of a block, for each format, from its bytes."""


@each_coded
def test_a_number_is_where_the_layout_says(form: BlockFormat):
    stored = stored_blocks(form.block_bytes)[:1].copy()
    for at in form.halves:
        stored[:, at + 1 :: form.block_bytes] &= 0xBF  # finite
    blocks = [row.tobytes() for row in stored.reshape(-1, form.block_bytes)]
    wanted = [NUMBER[form.name](block, j) for block in blocks for j in range(form.block)]
    found = form.decode(stored).reshape(-1)
    assert np.allclose(found, wanted, rtol=1e-5, atol=1e-5 * np.abs(wanted).max())


@pytest.mark.parametrize(("name", "codes", "zero"), [("q4_0", 16, 8), ("q5_0", 32, 16)])
def test_numbers_on_the_grid_get_their_codes(name, codes, zero):
    q = np.random.default_rng(0).integers(0, codes, (3, 64))
    q[:, ::32] = 0  # the peak is negative, and a power of two
    x = (q - zero).astype(np.float32) / 16
    assert np.array_equal(dequantize(quantize(x, name)), x)


@pytest.mark.parametrize(("name", "codes"), [("q4_1", 16), ("q5_1", 32)])
def test_numbers_on_the_grid_above_the_least_get_their_codes(name, codes):
    q = np.random.default_rng(0).integers(0, codes, (3, 64))
    q[:, ::32], q[:, 1::32] = 0, codes - 1
    x = q.astype(np.float32) / 16 - 5
    assert np.array_equal(dequantize(quantize(x, name)), x)


@pytest.mark.parametrize(("name", "codes"), [("q4_k", 16), ("q5_k", 32)])
@pytest.mark.parametrize("offset", [0.0, 63 / 1024])
def test_parts_of_equal_scales_on_the_grid_are_stored_exactly(name, codes, offset):
    q = np.random.default_rng(0).integers(0, codes, (3, 512))
    q[:, ::32], q[:, 1::32] = 0, codes - 1
    x = (q * 63 / 1024 - offset).astype(np.float32)  # 63 is the largest scale of a part
    assert np.array_equal(dequantize(quantize(x, name)), x)


def test_parts_with_a_power_of_two_for_their_peak_are_stored_exactly_by_q6_k():
    q = np.random.default_rng(0).integers(-32, 32, (3, 512))
    q[:, ::16] = -32
    x = (q * np.exp2(np.arange(512) // 16 % 8 - 9)).astype(np.float32)
    assert np.array_equal(dequantize(quantize(x, "q6_k")), x)


def test_halves_are_rounded_away_from_zero_by_q8_0():
    x = np.zeros(32, np.float32)
    x[:6] = 127, 0.5, -0.5, 2.5, np.nextafter(np.float32(0.5), np.float32(0)), 1.4999999
    assert dequantize(quantize(x, "q8_0"))[:6].tolist() == [127, 1, -1, 3, 0, 1]


def test_of_peaks_of_both_signs_the_first_gets_the_end_of_the_codes():
    x = np.zeros((2, 32), np.float32)
    x[0, 3], x[0, 20], x[1, 3], x[1, 20] = 8, -8, -8, 8
    found = dequantize(quantize(x, "q4_0"))
    assert found[:, [3, 20]].tolist() == [[8, -7], [-8, 7]]


@each_written
@pytest.mark.parametrize("name", BLOCK_INPUTS)
@pytest.mark.tier2
def test_compiled_and_plain_give_the_same_bits(form: BlockFormat, name):
    x = BLOCK_INPUTS[name]
    stored = form.encode(x)
    assert np.array_equal(stored, form.encode.reference(x))
    with np.errstate(all="ignore"):
        found, wanted = form.decode(stored), form.decode.reference(stored)
    assert np.array_equal(found, wanted, equal_nan=True)


@pytest.mark.parametrize("name", BLOCK_INPUTS)
@pytest.mark.parametrize("form", [f for f in ENCODED.values() if f.peaks], ids=lambda f: f.name)
def test_bfloat16_has_the_bytes_of_its_float32(form: BlockFormat, name):
    with np.errstate(over="ignore"):
        x = BLOCK_INPUTS[name].astype(ml_dtypes.bfloat16)
    x[~np.isfinite(x)] = 0
    assert form.takes(x)
    assert np.array_equal(form.encode(x), form.encode(x.astype(np.float32)))


@each_written
def test_what_is_not_in_memory_in_order_is_encoded_as_its_copy(form: BlockFormat):
    x = np.asfortranarray(BLOCK_INPUTS["normal"])
    wanted = form.encode(x.copy(order="C"))
    assert np.array_equal(form.encode(x), wanted)
    assert np.array_equal(form.decode(np.asfortranarray(wanted)), form.decode(wanted))


@each_written
def test_no_rows_are_no_blocks(form: BlockFormat):
    stored = quantize(np.empty((0, form.block), np.float32), form)
    assert stored.data.shape == (0, form.block_bytes)
    assert dequantize(stored).shape == (0, form.block)


@each_written
def test_any_number_of_axes_is_stored_row_by_row(form: BlockFormat):
    x = BLOCK_INPUTS["normal"][:12]
    stored = quantize(x.reshape(3, 2, 2, 256), form)
    assert stored.data.shape == (3, 2, 2, form.row_bytes(256))
    assert np.array_equal(stored.data.reshape(12, -1), form.encode(x))
    assert np.array_equal(dequantize(stored).reshape(12, 256), form.decode(form.encode(x)))


@each_written
@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_refused(form: BlockFormat, number):
    x = np.ones((2, 256), np.float32)
    x[1, 200] = number
    with pytest.raises(NumericsError, match=r"\(1, 200\)"):
        quantize(x, form)


@each_written
def test_a_scale_beyond_float16_is_refused(form: BlockFormat):
    x = np.ones((2, 256), np.float32)
    x[1, 0] = 1e9
    with pytest.raises(NumericsError, match=f"block {256 // form.block} .*1e\\+09.*{form.name}"):
        quantize(x, form)


def test_a_number_beyond_float16_is_refused_by_f16():
    with pytest.raises(NumericsError, match=r"block 3 .*65520.*f16"):
        quantize(np.array([[1, 65504], [-65504, 65520]], np.float32), "f16")


@each_written
def test_a_row_of_half_a_block_is_refused(form: BlockFormat):
    with pytest.raises(ShapeError, match=str(form.block // 2)):
        quantize(np.ones((2, form.block // 2), np.float32), form)


@pytest.mark.parametrize("form", [f for f in CODED if not f.encode], ids=lambda form: form.name)
def test_a_format_that_is_only_read_is_not_written(form: BlockFormat):
    assert form.name not in ENCODED
    with pytest.raises(UnsupportedError, match=form.name):
        form.quantize(np.ones((1, 256), np.float32))


weights = arrays.arrays(
    np.float32, (2, 256), elements=st.floats(-100, 100, width=32), fill=st.floats(-1, 1, width=32)
)
HALF, TINY = 2.0**-10, 2.0**-24
"""A float16 is off by less than this part of it, or by less than this."""


@settings(max_examples=40, deadline=None)
@given(weights)
@pytest.mark.parametrize(
    ("name", "steps", "scales", "off"),
    [("q4_0", 8, 1, 1), ("q5_0", 16, 1, 1), ("q8_0", 127, 1, 0.5), ("q6_k", 32, 128, 2)],
)
def test_around_zero_a_number_is_off_by_few_steps_of_the_peak(name, steps, scales, off, x):
    form = ENCODED[name]
    peak = np.abs(x.reshape(-1, form.block)).max(axis=1, keepdims=True)
    error = np.abs(form.decode(form.encode(x)) - x).reshape(-1, form.block)
    assert (error <= peak * (off / steps + HALF) + scales * steps * TINY).all()


@settings(max_examples=40, deadline=None)
@given(weights)
@pytest.mark.parametrize(
    ("name", "steps", "scales", "off"),
    [("q4_1", 15, 1, 0.5), ("q5_1", 31, 1, 0.5), ("q4_k", 15, 63, 1), ("q5_k", 31, 63, 1)],
)
def test_in_a_range_a_number_is_off_by_few_of_its_steps(name, steps, scales, off, x):
    form = ENCODED[name]
    blocks = x.reshape(-1, form.block)
    low, high = (f(axis=1, keepdims=True) for f in (blocks.min, blocks.max))
    low = np.minimum(low, 0) if form.block == 256 else low
    error = np.abs(form.decode(form.encode(x)) - x).reshape(-1, form.block)
    size = np.maximum(np.abs(low), np.abs(high))
    rounded = 2 * size * HALF + scales * (steps + 1) * TINY
    assert (error <= (high - low) * off / steps + rounded).all()


@each_written
@pytest.mark.parametrize("bits", [0x7F800000, 0xFF800000, 0x7FC00000, 0xFFC00001, 0x7F810001])
def test_a_number_that_is_not_finite_is_found_wherever_it_is(form: BlockFormat, bits):
    """Infinities and NaN of both signs, quiet and signalling, beside tiny and large numbers."""
    rng = np.random.default_rng(0)
    wrong = np.array([bits], np.uint32).view(np.float32)[0]
    for place in (0, 1, 31, 32, 300, 511, 513, 1023):
        for scale in (0, 1e-40, 1, 1e4):
            x = (rng.standard_normal((2, 512)) * scale).astype(np.float32)
            x.flat[place] = wrong
            cut = np.right_shift(x.view(np.uint32), 16).astype(np.uint16)
            for numbers in (x, cut.view(ml_dtypes.bfloat16)):
                message = rf"element \({place // 512}, {place % 512}\)"
                with pytest.raises(NumericsError, match=message):
                    form.quantize(numbers)
