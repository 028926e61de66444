"""Integers with a scale and a zero point, against their definition."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from entrenar_common.errors import ConfigError, NumericsError, ShapeError
from entrenar_core.quant import FORMATS, Grain, Integer, dequantize, quantize
from entrenar_core.quant.bits import pack, unpack

BITS = range(2, 9)
GRAINS = [Grain("tensor"), Grain(), Grain(axis=1), Grain("group", 4), Grain("group", 3, axis=1)]
EACH_GRAIN = pytest.mark.parametrize("grain", GRAINS, ids=lambda g: f"{g.kind}{g.axis}")
BOTH = pytest.mark.parametrize("symmetric", [True, False])


def weights(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def members(grain, shape):
    """The flat indices of the elements that share each scale, by looking at every element."""
    found = {}
    for flat, index in enumerate(np.ndindex(shape)):
        channel = index[grain.axis]
        others = [i for axis, i in enumerate(index) if axis != grain.axis]
        place = np.ravel_multi_index(others, [n for a, n in enumerate(shape) if a != grain.axis])
        key = {"tensor": 0, "channel": channel, "group": (channel, place // (grain.group or 1))}
        found.setdefault(key[grain.kind], []).append(flat)
    return list(found.values())


@EACH_GRAIN
@BOTH
@pytest.mark.parametrize("bits", BITS)
def test_every_number_becomes_the_nearest_step_of_its_scale(bits, symmetric, grain):
    x = weights(6, 8)
    found = dequantize(quantize(x, Integer(bits, symmetric, grain))).ravel()
    flat = x.ravel().astype(np.float64)
    for indices in members(grain, x.shape):
        part = flat[indices]
        if symmetric:
            step = np.abs(part).max() / (2 ** (bits - 1) - 1)
        else:
            step = (max(part.max(), 0) - min(part.min(), 0)) / (2**bits - 1)
        error = np.abs(found[indices] - part).max()
        # a zero point that is rounded moves the ends of the range by half a step at most
        assert error <= step / 2 * (1 if symmetric else 2) + 1e-6
        assert np.abs(found[indices] / step - np.rint(found[indices] / step)).max() < 1e-3


@BOTH
@pytest.mark.parametrize("bits", BITS)
def test_zero_stays_zero(bits, symmetric):
    x = np.abs(weights(5, 9)) + 1
    x[:, 3] = 0
    assert not dequantize(quantize(x, Integer(bits, symmetric)))[:, 3].any()


@pytest.mark.parametrize("bits", BITS)
def test_a_symmetric_range_ends_at_the_largest_magnitude_and_its_negative(bits):
    x = np.array([[3.0, -3.0, 1.0, 0.0], [-0.5, 0.1, 0.0, 0.0]], np.float32)
    stored = quantize(x, Integer(bits))
    limit = 2 ** (bits - 1) - 1
    assert stored.scale.tolist() == np.float32([3 / limit, 0.5 / limit]).tolist()
    assert stored.integers()[0, :2].tolist() == [limit, -limit]
    assert stored.integers()[1, 0] == -limit


@pytest.mark.parametrize("bits", BITS)
def test_an_asymmetric_range_uses_every_code_of_the_width(bits):
    x = np.linspace(-1, 2, 3 * (2**bits - 1) + 1, dtype=np.float32)
    stored = quantize(x, Integer(bits, symmetric=False))
    assert set(stored.integers().tolist()) == set(range(2**bits))
    assert stored.zero.tolist() == [np.rint((2**bits - 1) / 3)]


def test_numbers_on_one_side_of_zero_have_zero_in_their_range():
    stored = quantize(np.array([2.0, 3.0], np.float32), Integer(8, symmetric=False))
    assert (stored.zero.tolist(), stored.scale.tolist()) == ([0], [np.float32(3 / 255)])
    stored = quantize(np.array([-2.0, -3.0], np.float32), Integer(8, symmetric=False))
    assert stored.zero.tolist() == [255]


@EACH_GRAIN
@BOTH
def test_what_is_on_the_steps_already_stays(grain, symmetric):
    form = Integer(4, symmetric, grain)
    once = dequantize(quantize(weights(6, 12), form))
    again = dequantize(quantize(once, form))
    assert np.abs(again - once).max() <= 1e-6


@pytest.mark.parametrize("bits", BITS)
def test_storage_is_as_many_bits_as_the_name_says(bits):
    x = weights(16, 64)
    assert quantize(x, f"int{bits}").nbytes == x.size * bits / 8 + 16 * 4
    assert quantize(x, f"uint{bits}").nbytes == x.size * bits / 8 + 16 * (4 + 1)


@given(st.integers(1, 8), st.lists(st.integers(0, 255), max_size=40))
def test_codes_that_are_packed_come_back(bits, values):
    codes = np.array(values, np.uint8) % np.uint8(2**bits - 1 or 1)
    packed = pack(codes, bits)
    assert packed.size == -(-codes.size // 8) * bits
    assert np.array_equal(unpack(packed, bits, codes.size), codes)


@given(st.integers(1, 8), st.lists(st.integers(0, 255), max_size=40))
def test_codes_follow_each_other_without_gaps(bits, values):
    codes = [v % 2**bits for v in values]
    number = sum(code << (bits * i) for i, code in enumerate(codes))
    packed = pack(np.array(codes, np.uint8), bits)
    assert packed.tobytes() == number.to_bytes(packed.size, "little")


@BOTH
@pytest.mark.parametrize("value", [0.0, 1e-45, 1e-38, 3e38])
def test_the_smallest_and_largest_numbers_give_finite_ones(value, symmetric):
    x = np.array([[value, -value, 0, value / 2]], np.float32)
    found = dequantize(quantize(x, Integer(8, symmetric)))
    assert np.isfinite(found).all()
    assert np.abs(found - x).max() <= max(value / 64, 1e-38)


def test_nothing_at_all_is_stored_as_nothing():
    assert dequantize(quantize(np.zeros((0, 4), np.float32), "int4")).shape == (0, 4)


def test_every_width_is_known_by_name():
    assert {f"{kind}{bits}" for kind in ("int", "uint") for bits in BITS} <= FORMATS.keys()


@pytest.mark.parametrize(
    ("form", "name"),
    [
        (Integer(3), "int3"),
        (Integer(5, symmetric=False, grain=Grain("tensor")), "uint5-tensor"),
        (Integer(4, grain=Grain("group", 32)), "int4-g32"),
        (Integer(8, grain=Grain(axis=1)), "int8-axis1"),
    ],
)
def test_options_show_in_the_name(form, name):
    assert form.name == name


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: Integer(9), ConfigError, "integers of 9 bits"),
        (lambda: Grain("row"), ConfigError, "granularity 'row'"),
        (lambda: Grain("group"), ConfigError, "granularity group with groups of None"),
        (lambda: Grain("channel", 4), ConfigError, "granularity channel with groups of 4"),
        (
            lambda: quantize(weights(2, 7), Integer(4, grain=Grain("group", 4))),
            ShapeError,
            r"channels of 7 elements \(shape \(2, 7\), axis 0\) are no whole number of groups of 4",
        ),
        (lambda: quantize(weights(2, 7), Integer(4, grain=Grain(axis=2))), ShapeError, "no axis 2"),
        (lambda: quantize(np.array([np.inf]), "int8"), NumericsError, "inf: int8 stores finite"),
    ],
)
def test_what_makes_no_sense_is_refused(make, error, message):
    with pytest.raises(error, match=message):
        make()
