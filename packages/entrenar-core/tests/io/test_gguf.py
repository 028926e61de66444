"""Writing GGUF files and reading them back."""

import hashlib
import math
import os
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from entrenar_common.errors import (
    IntegrityError,
    NotFoundError,
)
from entrenar_core.io import gguf
from entrenar_core.io.gguf import GGUFFile, Planned, Value, ValueType, write_gguf
from entrenar_core.quant import BY_NUMBER, BlockArray

F32, F16, Q8_0, BF16 = (BY_NUMBER[number] for number in (0, 1, 8, 30))
NUMPY = {
    kind: np.dtype(name)
    for kind, name in {
        ValueType.U8: "uint8",
        ValueType.I8: "int8",
        ValueType.U16: "uint16",
        ValueType.I16: "int16",
        ValueType.U32: "uint32",
        ValueType.I32: "int32",
        ValueType.F32: "float32",
        ValueType.BOOL: "bool",
        ValueType.U64: "uint64",
        ValueType.I64: "int64",
        ValueType.F64: "float64",
    }.items()
}


def blocks(form, shape: tuple[int, ...], seed: int = 0) -> BlockArray:
    """Random bytes as an array of this type: no decoder is needed to write or to compare them."""
    row_bytes = form.row_bytes(shape[-1] if shape else 1)
    size = math.prod(shape[:-1]) * row_bytes
    return form.wrap(np.random.default_rng(seed).integers(0, 256, size, np.uint8), shape)


def plan(tensors: dict[str, BlockArray]) -> list[Planned]:
    return [Planned(name, array.form, array.shape) for name, array in tensors.items()]


def write(path: Path, metadata: dict[str, Value], tensors: dict[str, BlockArray]):
    return write_gguf(path, metadata, plan(tensors), tensors.__getitem__)


def some_tensors() -> dict[str, BlockArray]:
    shapes = [(3,), (5, 64), (2, 3, 32), (2, 1, 3, 32)]
    found = {
        f"blk.{i}.{form.name}": blocks(form, shape, i)
        for form in (F32, F16, BF16, Q8_0)
        for i, shape in enumerate(shapes)
        if shape[-1] % form.block == 0
    }
    return {**found, "scalar": blocks(F32, ()), "empty": blocks(Q8_0, (0, 32))}


def some_metadata() -> dict[str, Value]:
    """A value of every type, at the limits of each, and an array of every type."""
    found = {
        "general.architecture": gguf.text("llama"),
        "empty": gguf.text(""),
        "ü": gguf.text("漢"),
    }
    for kind, dtype in NUMPY.items():
        values = [False, True]
        if dtype.kind != "b":
            limits = np.finfo(dtype) if dtype.kind == "f" else np.iinfo(dtype)
            values = [limits.min, limits.max]
        for number, value in enumerate(values):
            found[f"{kind}.{number}"] = gguf.scalar(kind, dtype.type(value).item())
        found[f"{kind}.array"] = gguf.array(kind, np.array(values, dtype))
        found[f"{kind}.none"] = gguf.array(kind, [])
    found["nan"] = gguf.f32(math.nan)
    found["texts"] = gguf.texts(["a", "", "ü", "x" * 300, "nul \0 and\nnewline"])
    found["no texts"] = gguf.texts([])
    return found


def assert_same(file: GGUFFile, tensors: dict[str, BlockArray]) -> None:
    assert list(file.tensors) == list(tensors)
    for name, array in tensors.items():
        found = file.read(name)
        assert (found.form, found.shape) == (array.form, array.shape)
        assert found.data.tobytes() == array.data.tobytes()


def test_every_type_of_value_is_read_back(tmp_path):
    metadata = some_metadata()
    write(tmp_path / "a", metadata, {})
    with GGUFFile(tmp_path / "a") as file:
        assert list(file.metadata) == list(metadata)
        for key, value in metadata.items():
            assert file.metadata.value(key) == value
            assert file.metadata.value(key).type is value.type
            assert file.metadata.kind(key) == (
                value.type, len(value.content) if value.is_array else None,
            )  # fmt: skip


def test_values_are_those_of_the_getters(tmp_path):
    metadata = some_metadata()
    write(tmp_path / "a", metadata, {})
    with GGUFFile(tmp_path / "a") as file:
        found = file.metadata
        assert found.text("ü") == "漢"
        assert found.integer("i64.0") == -(2**63)
        assert found.integer("u64.1") == 2**64 - 1
        assert found.number("f64.1") == sys.float_info.max
        assert math.isnan(found.number("nan"))
        assert found.flag("bool.1") is True
        assert found.strings("texts", count=5)[3] == "x" * 300
        array = found.array("i16.array", ValueType.I16, count=2)
        np.testing.assert_array_equal(array, np.array([-(2**15), 2**15 - 1], np.int16))
        assert found["u8.1"] == 255
        assert "u8.1" in found
        assert "u9" not in found
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1


def test_a_missing_key_has_its_default(tmp_path):
    write(tmp_path / "a", {}, {})
    with GGUFFile(tmp_path / "a") as file:
        found = file.metadata
        assert found.text("a", "x") == "x"
        assert found.integer("a", 0) == 0
        assert found.number("a", 0.5) == 0.5
        assert found.flag("a", False) is False
        assert found.strings("a", ()) == ()
        assert found.array("a", ValueType.I32, np.zeros(0)).size == 0
        with pytest.raises(KeyError):
            found["a"]


def test_metadata_stays_readable_after_close(tmp_path):
    write(tmp_path / "a", some_metadata(), {})
    with GGUFFile(tmp_path / "a") as file:
        pass
    os.truncate(tmp_path / "a", 0)
    assert dict(file.metadata)["texts"] == some_metadata()["texts"].content


def test_tensors_of_every_layout_are_read_back(tmp_path):
    tensors = some_tensors()
    written = write(tmp_path / "a", some_metadata(), tensors)
    data = (tmp_path / "a").read_bytes()
    assert written == (len(data), hashlib.sha256(data).hexdigest())
    with GGUFFile(tmp_path / "a") as file:
        assert_same(file, tensors)
        assert file.parameter_count == sum(array.size for array in tensors.values())
        assert (file.version, file.alignment) == (3, 32)


def test_a_file_written_again_has_the_same_bytes(tmp_path):
    write(tmp_path / "a", some_metadata(), some_tensors())
    with GGUFFile(tmp_path / "a") as file:
        metadata = {key: file.metadata.value(key) for key in file.metadata}
        planned = [Planned(t.name, t.form, t.shape) for t in file.tensors.values()]
        write_gguf(tmp_path / "b", metadata, planned, file.read)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_floats_are_those_that_were_stored(tmp_path):
    values = np.random.default_rng(0).standard_normal((4, 6)).astype(np.float32)
    write(tmp_path / "a", {}, {"w": F32.quantize(values)})
    with GGUFFile(tmp_path / "a") as file:
        np.testing.assert_array_equal(file.read("w").dequantize(), values)
        assert file.info("w").shape == (4, 6)


@pytest.mark.parametrize("form", [F32, Q8_0, BY_NUMBER[12]], ids=lambda form: form.name)
@pytest.mark.parametrize("shape", [(0,), (3, 0), (0, 256), (2, 0, 256)])
def test_tensors_without_elements_are_read_back(tmp_path, form, shape):
    write(tmp_path / "a", {}, {"w": form.quantize(np.zeros(shape, np.float32))})
    with GGUFFile(tmp_path / "a") as file:
        found = file.read("w").dequantize()
    assert (found.shape, found.dtype) == (shape, np.float32)


@pytest.mark.parametrize("alignment", [8, 64, 65_536])
def test_tensors_are_aligned_as_the_metadata_says(tmp_path, alignment):
    tensors = {"a": blocks(F32, (3,)), "b": blocks(F32, (5,), 1)}
    written = write(tmp_path / "a", {"general.alignment": gguf.u32(alignment)}, tensors)
    assert written.size % alignment == 0
    with GGUFFile(tmp_path / "a") as file:
        assert_same(file, tensors)
        assert file.info("b").begin % alignment == 0


def test_reading_is_a_view_of_the_mapped_file(tmp_path):
    write(tmp_path / "a", {}, {"w": blocks(F32, (1000,))})
    with GGUFFile(tmp_path / "a") as file:
        first, second = file.read("w"), file.read("w")
        assert np.shares_memory(first.data, second.data)
        with pytest.raises(ValueError, match="read-only"):
            first.data[0] = 1


def test_arrays_stay_valid_after_close_release_and_replacement(tmp_path):
    tensors = {"w": blocks(F32, (50_000,))}
    write(tmp_path / "a", {}, tensors)
    with GGUFFile(tmp_path / "a") as file:
        found = file.read("w")
        write(tmp_path / "a", {}, {"w": blocks(F32, (50_000,), 1)})  # over a mapped file
        file.release("w")
    assert found.data.tobytes() == tensors["w"].data.tobytes()
    with pytest.raises(ValueError, match="after close"):
        file.read("w")


@pytest.mark.parametrize("change", ["cut", "grow", "rewrite"])
def test_a_file_changed_in_place_is_noticed_before_it_is_read(tmp_path, change):
    path = tmp_path / "a"
    write(path, {}, {"w": blocks(F32, (5000,))})
    with GGUFFile(path) as file:
        if change == "rewrite":
            os.utime(path, ns=(0, 0))
        else:
            os.truncate(path, path.stat().st_size + (-100 if change == "cut" else 100))
        with pytest.raises(IntegrityError, match="changed"):
            file.read("w")


def test_a_missing_tensor_suggests_the_nearest(tmp_path):
    write(tmp_path / "a", {}, {"output.weight": blocks(F32, (1,))})
    with GGUFFile(tmp_path / "a") as file, pytest.raises(NotFoundError) as caught:
        file.read("output.wieght")
    assert caught.value.hint == "did you mean 'output.weight'?"


KINDS = st.sampled_from(sorted(NUMPY))
SCALARS = KINDS.flatmap(
    lambda kind: st.integers(0, 1).map(
        lambda n: gguf.scalar(kind, bool(n) if kind is ValueType.BOOL else n)
    )
)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
VALUES = st.one_of(
    SCALARS,
    TEXTS.map(gguf.text),
    st.lists(TEXTS, max_size=9).map(gguf.texts),
    st.lists(st.integers(-(2**15), 2**15 - 1), max_size=9).map(
        lambda found: gguf.array(ValueType.I16, found)
    ),
    st.lists(st.floats(width=32), max_size=9).map(lambda f: gguf.array(ValueType.F32, f)),
)
NAMES = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=8)
SHAPES = st.lists(st.integers(0, 3), max_size=3)
ARRAYS = st.builds(
    lambda form, shape, seed: blocks(form, (*shape, form.block), seed),
    st.sampled_from([F32, F16, Q8_0, BY_NUMBER[12]]),
    SHAPES,
    st.integers(0, 99),
)


@pytest.mark.tier2
@settings(max_examples=50, deadline=None)
@given(
    metadata=st.dictionaries(NAMES, VALUES, max_size=5),
    tensors=st.dictionaries(NAMES, ARRAYS, max_size=5),
)
def test_whatever_is_written_is_read_back(metadata, tensors):
    metadata.pop("general.alignment", None)
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder) / "a", metadata, tensors)
        with GGUFFile(Path(folder) / "a") as file:
            assert {key: file.metadata.value(key) for key in file.metadata} == metadata
            assert_same(file, tensors)
