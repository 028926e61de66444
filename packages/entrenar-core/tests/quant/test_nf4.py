"""NF4 against its definition."""

from statistics import NormalDist

import numpy as np
import pytest

from entrenar_common.errors import ConfigError, NumericsError
from entrenar_core.kernels.nf4 import ENTRIES, LIMITS
from entrenar_core.quant import NF4, dequantize, format_named, quantize


def weights(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def nearest(x, block=64):
    """The nearest entry times the scale, by looking at all of them, in float64."""
    out = np.empty(x.size)
    for start in range(0, x.size, block):
        part = x.reshape(-1)[start : start + block].astype(np.float64)
        scale = np.abs(part).max()
        candidates = ENTRIES.astype(np.float64) * scale
        out[start : start + block] = candidates[np.abs(part[:, None] - candidates).argmin(axis=1)]
    return out.reshape(x.shape)


def test_the_entries_are_quantiles_of_a_normal_distribution():
    # QLoRA, section 3: 8 quantiles below 0 and 9 from it on, 0 once, scaled to [−1, 1]
    offset = 0.9677083
    quantile = np.vectorize(NormalDist().inv_cdf)
    lower = quantile(np.linspace(1 - offset, 0.5, 8))
    upper = quantile(np.linspace(0.5, offset, 9))
    wanted = np.concatenate([lower, upper[1:]]) / upper[-1]
    assert np.abs(ENTRIES - wanted).max() < 1e-6


@pytest.mark.parametrize("size", [1, 63, 64, 65, 1000])
def test_every_number_becomes_the_nearest_entry_times_the_scale(size):
    x = weights(size)
    found = dequantize(quantize(x, "nf4-single"))
    assert np.abs(found - nearest(x)).max() <= 1e-6


def test_blocks_go_on_across_rows():
    x = weights(3, 50)
    assert np.array_equal(
        dequantize(quantize(x, "nf4-single")).ravel(),
        dequantize(quantize(x.ravel(), "nf4-single")),
    )


def test_two_codes_make_a_byte_the_first_in_its_upper_half():
    x = np.zeros(64, np.float32)
    x[:3] = [-1, 1, 0]
    assert quantize(x, "nf4-single").codes[:2].tolist() == [0x0F, 0x77]


def test_a_number_in_the_middle_of_two_entries_gets_the_lower_one():
    x = np.concatenate([LIMITS, np.ones(49, np.float32)])
    codes = quantize(x, "nf4-single").codes
    assert np.stack([codes >> 4, codes & 15], axis=1).ravel()[:15].tolist() == list(range(15))


@pytest.mark.parametrize("name", ["nf4", "nf4-single"])
def test_zeros_stay_zeros(name):
    assert not dequantize(quantize(np.zeros((3, 40), np.float32), name)).any()


def test_double_quantization_takes_4_127_bits_and_single_4_5():
    x = weights(64 * 256, 4)
    assert quantize(x, "nf4-single").bits_per_weight == 4.5
    # 4 + 8/64 + 32/(64·256), and the 4 bytes of the offset
    assert quantize(x, "nf4").nbytes == x.size / 8 * (4 + 8 / 64 + 32 / (64 * 256)) + 4


def test_scales_in_8_bits_are_nearly_those_in_float32():
    x = weights(300, 64)
    single, double = quantize(x, "nf4-single"), quantize(x, "nf4")
    assert np.array_equal(single.codes, double.codes)
    error = np.abs(double.scales.values() - single.scales.values())
    # the entries of the dynamic map are at most 0.0141 apart, of what a scale differs from the mean
    spread = np.abs(single.scales.values() - single.scales.values().mean()).max()
    assert error.max() <= 0.0071 * spread + 1e-7


def test_numbers_come_out_in_the_precision_of_those_that_went_in():
    x = weights(8, 64).astype(np.float16)
    found = dequantize(quantize(x, "nf4"))
    assert found.dtype == np.float32
    assert np.array_equal(found, found.astype(np.float16))


def test_nothing_at_all_is_stored_as_nothing():
    assert dequantize(quantize(np.zeros((0, 5), np.float32), "nf4")).shape == (0, 5)


def test_a_block_that_bitsandbytes_cannot_read_is_refused():
    with pytest.raises(ConfigError, match="NF4 in blocks of 48"):
        NF4(48)


def test_nan_is_refused():
    with pytest.raises(NumericsError, match=r"element \(1,\) is nan: nf4 stores"):
        quantize(np.array([0.0, np.nan]), "nf4")


def test_options_show_in_the_name():
    names = [NF4().name, NF4(double=False).name, NF4(128).name, NF4(32, False).name]
    assert names == ["nf4", "nf4-single", "nf4-128", "nf4-single-32"]
    assert format_named("NF4") == NF4()
