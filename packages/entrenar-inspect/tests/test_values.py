"""The values of tensors, beside numpy in float64."""

from dataclasses import fields

import ml_dtypes
import numpy as np
import pytest

from entrenar_core.io.apr import write_apr
from entrenar_core.io.gguf import Planned, text, write_gguf
from entrenar_core.io.safetensors import write_file
from entrenar_core.quant import FORMATS
from entrenar_inspect.distribution import BINS
from entrenar_inspect.opening import open_artifact
from entrenar_inspect.values import SMALL, values_of

SIZES = (1, 7, SMALL + 5, 3 * SMALL + 1)
FLOATS = (np.float32, np.float64, np.float16, ml_dtypes.bfloat16)


def drawn(size, dtype):
    return (np.random.default_rng(size).standard_normal(size) * 0.02).astype(dtype)


@pytest.fixture
def measured(tmp_path):
    def measure(array):
        write_file(tmp_path / "one.safetensors", {"x": array})
        with open_artifact(str(tmp_path / "one.safetensors")) as artifact:
            return values_of(artifact, "x")

    return measure


def close(found, wanted):
    # a sum of float32 numbers in pieces; of other types they are added up in float64
    return found == pytest.approx(wanted, rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("size", SIZES)
def test_moments_are_those_of_the_numbers_in_float64(measured, dtype, size):
    array = drawn(size, dtype)
    wide, found = array.astype(np.float64), measured(array)
    assert found.elements == size
    assert (found.minimum, found.maximum) == (wide.min(), wide.max())
    assert close(found.mean, wide.mean())
    assert close(found.deviation, wide.std())
    assert close(found.norm, np.sqrt((wide**2).sum()))
    assert (found.nans, found.infinities, found.first_bad) == (0, 0, None)


@pytest.mark.parametrize("dtype", FLOATS)
def test_what_sticks_out_is_counted(measured, dtype):
    array = drawn(2 * SMALL, dtype)
    array[[5, 7, 11]] = 1.0
    array[100:150] = 0.0
    wide, found = array.astype(np.float64), measured(array)
    assert found.zeros == (wide == 0).sum() >= 50
    assert found.outliers == 3
    assert found.typical == pytest.approx(np.quantile(abs(wide), 0.999), rel=0.01)


@pytest.mark.parametrize("dtype", FLOATS)
def test_numbers_that_are_nearly_equal_have_the_deviation_that_they_have(measured, dtype):
    array = (1 + drawn(2 * SMALL, np.float64) / 2).astype(dtype)
    assert measured(array).deviation == pytest.approx(array.astype(np.float64).std(), rel=1e-5)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("size", (9, 2 * SMALL))
@pytest.mark.parametrize("bad", (np.nan, np.inf, -np.inf))
def test_the_first_number_that_is_not_finite_is_found(measured, dtype, size, bad):
    array = drawn(size, dtype)
    array[[size // 2, size - 1]] = bad
    rest, found = array[np.isfinite(array)].astype(np.float64), measured(array)
    assert found.first_bad == size // 2
    assert (found.nans, found.infinities) == ((2, 0) if np.isnan(bad) else (0, 2))
    assert close(found.mean, rest.mean())
    assert (found.minimum, found.maximum) == (rest.min(), rest.max())


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("size", (2, 2 * SMALL))
def test_an_array_of_one_number_is_constant_and_has_no_deviation(measured, dtype, size):
    found = measured(np.full(size, 0.1, dtype))
    assert found.constant
    assert found.deviation == 0
    assert found.histogram.counts == (size,)


@pytest.mark.parametrize("dtype", FLOATS)
def test_a_histogram_counts_as_numpy_does(measured, dtype):
    array = drawn(2 * SMALL, dtype)
    found = measured(array).histogram
    wide = array.astype(np.float64)
    inside = wide[(wide >= found.low) & (wide <= found.high)]
    counts, _ = np.histogram(inside, BINS, (found.low, found.high))
    assert found.low == pytest.approx(max(wide.min(), wide.mean() - 4 * wide.std()), rel=1e-6)
    assert found.high == pytest.approx(min(wide.max(), wide.mean() + 4 * wide.std()), rel=1e-6)
    # a number at an edge may fall to either side, where it lies in a bin of 2⁻⁸ of its size
    assert np.abs(np.subtract(found.counts, counts)).max() <= (0 if array.itemsize == 2 else 300)
    assert sum(found.counts) == pytest.approx(inside.size, abs=3)


def test_infinite_numbers_alone_have_no_figures(measured):
    found = measured(np.full(3, np.inf, np.float32))
    assert (found.mean, found.norm, found.histogram, found.infinities) == (None, None, None, 3)


@pytest.mark.parametrize("size", (9, SMALL))
def test_a_complex_number_is_not_finite_where_one_of_its_parts_is_not(measured, size):
    array = drawn(size, np.float32).astype(np.complex64)
    array[size // 2] = complex(0.0, np.nan)
    found = measured(array)
    assert (found.nans, found.first_bad) == (1, size // 2)


def test_an_empty_tensor_has_no_figures(measured):
    found = measured(np.zeros((0, 4), np.float32))
    assert (found.elements, found.mean, found.zeros) == (0, None, 0)


@pytest.mark.parametrize("dtype", (np.int8, np.uint8, np.int16, np.int32, np.int64, np.bool_))
@pytest.mark.parametrize("size", (40, 2 * SMALL))
def test_whole_numbers_have_figures_too(measured, dtype, size):
    array = np.random.default_rng(0).integers(0, 100, size).astype(dtype)
    wide, found = array.astype(np.float64), measured(array)
    assert (found.minimum, found.maximum) == (wide.min(), wide.max())
    assert found.mean == pytest.approx(wide.mean())
    assert found.zeros == (wide == 0).sum()


@pytest.mark.parametrize("size", (8, 4 * SMALL))
def test_eight_bit_floats_are_counted_by_their_patterns(measured, size):
    array = drawn(size, np.float32) * 50
    array = array.astype(ml_dtypes.float8_e4m3fn)
    assert measured(array).mean == pytest.approx(array.astype(np.float64).mean(), abs=1e-12)


@pytest.mark.parametrize("form", ("q4_0", "q8_0", "q6_k", "f16", "bf16", "f32"))
def test_blocks_have_the_values_that_they_stand_for(tmp_path, form):
    array = drawn(256 * 300, np.float32).reshape(300, 256)
    stored = FORMATS[form].quantize(array)
    planned = [Planned("x", stored.form, stored.shape)]
    metadata = {"general.architecture": text("none")}
    write_gguf(tmp_path / "one.gguf", metadata, planned, lambda _: stored)
    wide = stored.dequantize().astype(np.float64)
    with open_artifact(str(tmp_path / "one.gguf")) as artifact:
        found = values_of(artifact, "x")
    assert close(found.mean, wide.mean())
    assert close(found.deviation, wide.std())
    assert (found.minimum, found.maximum) == (wide.min(), wide.max())
    assert found.zeros == (wide == 0).sum()


def test_a_type_that_nothing_decodes_has_no_values(tmp_path):
    from entrenar_core.quant.blocks import BY_NUMBER

    form = next(form for form in BY_NUMBER.values() if form.name == "iq4_xs")
    stored = form.wrap(np.zeros((2, form.block_bytes), np.uint8), (2, 256))
    metadata = {"general.architecture": text("none")}
    planned = [Planned("x", form, (2, 256))]
    write_gguf(tmp_path / "one.gguf", metadata, planned, lambda _: stored)
    with open_artifact(str(tmp_path / "one.gguf")) as artifact:
        assert values_of(artifact, "x") is None


def test_one_figure_does_not_depend_on_the_container(tmp_path):
    array = drawn(2 * SMALL, np.float32)
    write_file(tmp_path / "a.safetensors", {"x": array})
    write_apr(tmp_path / "a.apr", {"x": array}, metadata={})
    found = []
    for name in ("a.safetensors", "a.apr"):
        with open_artifact(str(tmp_path / name)) as artifact:
            found.append(values_of(artifact, "x"))
    assert found[0] == found[1]
    assert len(fields(found[0])) > 10
