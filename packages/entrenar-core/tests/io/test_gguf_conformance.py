"""GGUF files beside the two other readers: llama.cpp's, and that of its Python package `gguf`.

Those beside llama.cpp need libggml-base (see `ggml_reader`); the package is not needed for them.
"""

import math
from pathlib import Path

import numpy as np
import pytest

import ggml_reader
import gguf_bytes as gg
from entrenar_common.errors import EntrenarError
from entrenar_core.io import gguf
from entrenar_core.io.gguf import GGUFFile, GGUFFiles, Planned, Value, ValueType, write_gguf
from entrenar_core.quant import BY_NUMBER, BlockArray
from ggml_library import installed_library
from gguf_bad_cases import BAD

NUMBERS = {
    ValueType.U8: [0, 255],
    ValueType.I8: [-128, 127],
    ValueType.U16: [0, 2**16 - 1],
    ValueType.I16: [-(2**15), 2**15 - 1],
    ValueType.U32: [0, 2**32 - 1],
    ValueType.I32: [-(2**31), 2**31 - 1],
    ValueType.F32: [-1.5, 2.0**127],
    ValueType.BOOL: [False, True],
    ValueType.U64: [0, 2**64 - 1],
    ValueType.I64: [-(2**63), 2**63 - 1],
    ValueType.F64: [0.1, -1e300],
}
TEXTS = ["a", "", "ü漢", "x" * 300]


def some_metadata() -> dict[str, Value]:
    found = {"general.architecture": gguf.text("llama"), "ü": gguf.text("漢")}
    for kind, values in NUMBERS.items():
        found |= {f"{kind}.{i}": gguf.scalar(kind, value) for i, value in enumerate(values)}
        found[f"{kind}.all"] = gguf.array(kind, values)
    return found | {"texts": gguf.texts(TEXTS)}


def some_tensors() -> dict[str, BlockArray]:
    """Random bytes in every type: no decoder is needed to write and read them."""
    rng = np.random.default_rng(0)
    found = {}
    for form in BY_NUMBER.values():
        for shape in ((form.block,), (3, 2 * form.block), (2, 1, 3, form.block)):
            size = math.prod(shape) // form.block * form.block_bytes
            data = rng.integers(0, 256, size, np.uint8)
            found[f"{form.name}.{len(shape)}"] = form.wrap(data, shape)
    return found


def write(path: Path, metadata: dict[str, Value], tensors: dict[str, BlockArray]) -> bytes:
    planned = [Planned(name, array.form, array.shape) for name, array in tensors.items()]
    write_gguf(path, metadata, planned, tensors.__getitem__)
    return path.read_bytes()


LAXER = {
    # values that a C program does not look at
    "text not utf-8", "key not utf-8", "name not utf-8", "flag of 2", "flag of 2 in an array",
    # names that would end early in C, or steer a terminal
    "nul in a key", "escape in a key", "nul in a name", "escape in a name", "empty name",
    # limits
    "5 million texts", "long key", "alignment 1", "alignment 2^31", "bytes of blocks wrap",
    "strides that overflow",
    # where the data ends, which it does not compare with the header alone
    "one byte short", "no data", "no padding at the end", "appended zip", "data without tensors",
}  # fmt: skip
"""The malformed files whose header llama.cpp accepts."""


@pytest.fixture
def llama_cpp():
    installed_library()
    return ggml_reader.llama_cpp_reads


@pytest.mark.conformance
@pytest.mark.parametrize("alignment", [None, 8, 256])
def test_llama_cpp_reads_what_we_write_with_equal_values(tmp_path, llama_cpp, alignment):
    metadata, tensors = some_metadata(), some_tensors()
    if alignment:
        metadata["general.alignment"] = gguf.u32(alignment)
    data = write(tmp_path / "a", metadata, tensors)
    found = llama_cpp(data)
    assert found is not None
    assert found == ggml_reader.we_read(data)
    assert [t[0].decode() for t in found["tensors"]] == list(tensors)
    for name, number, extents, offset, size in found["tensors"]:
        array = tensors[name.decode()]
        assert number == array.form.number
        assert extents[: len(array.shape)] == array.shape[::-1]
        begin = found["data_start"] + offset
        assert data[begin : begin + size] == array.data.tobytes()


@pytest.mark.conformance
def test_llama_cpp_reads_a_file_without_tensors(tmp_path, llama_cpp):
    data = write(tmp_path / "a", some_metadata(), {})
    assert llama_cpp(data) == ggml_reader.we_read(data)


@pytest.mark.conformance
def test_what_only_we_refuse_is_known(llama_cpp):
    bad = {name: data for name, (data, _) in BAD.items() if data}
    accepted = {name for name, data in bad.items() if ggml_reader.llama_cpp_accepts_header(data)}
    assert accepted == LAXER


@pytest.mark.conformance
def test_every_byte_changed_is_refused_or_read_as_llama_cpp_reads_it(llama_cpp):
    accepted = 0
    for place in range(len(gg.serialise(gg.small_fields()))):
        for value in {0, 1, 0x7F, 0x80, 0xFF} - {gg.SMALL[place]}:
            data = gg.SMALL[:place] + bytes([value]) + gg.SMALL[place + 1 :]
            try:
                ours = ggml_reader.we_read(data)
            except EntrenarError:
                continue
            accepted += 1
            assert ours == llama_cpp(data)
    assert accepted > 100


@pytest.mark.parity
def test_the_gguf_package_reads_what_we_write_with_equal_values(tmp_path):
    package = pytest.importorskip("gguf")
    metadata, tensors = some_metadata(), some_tensors()
    # the package says 40 bytes of a q8_1 block, which are 36 to the library (and in no file)
    tensors = {name: array for name, array in tensors.items() if array.form.name != "q8_1"}
    write(tmp_path / "a", metadata, tensors)
    reader = package.GGUFReader(tmp_path / "a")
    for key, value in metadata.items():
        field, content = reader.fields[key], value.content
        found = field.contents()
        if isinstance(content, np.ndarray | tuple):
            assert int(field.types[0]) == ValueType.ARRAY
            assert found == list(content)
        else:
            assert found == content
        assert int(field.types[-1]) == value.type
    assert [t.name for t in reader.tensors] == list(tensors)
    for tensor in reader.tensors:
        array = tensors[tensor.name]
        assert int(tensor.tensor_type) == array.form.number
        assert tuple(tensor.shape.tolist()) == array.shape[::-1]
        assert tensor.data.tobytes() == array.data.tobytes()


def written_by_the_package(path: Path, **options: int) -> dict[str, np.ndarray]:
    """A file, or several parts, of GGUFWriter; returns the tensors."""
    package = pytest.importorskip("gguf")
    writer = package.GGUFWriter(path, "llama", **options)
    for kind, values in NUMBERS.items():
        for number, value in enumerate(values):
            writer.add_key_value(f"{kind}.{number}", value, package.GGUFValueType(int(kind)))
    writer.add_array("i32.all", [-1, 2])
    writer.add_array("f32.all", [0.5, -2.0])
    writer.add_array("texts", TEXTS)
    rng = np.random.default_rng(0)
    tensors = {f"t{i}": rng.standard_normal((3, 32 + i)).astype(np.float32) for i in range(4)}
    tensors["half"] = tensors["t0"].astype(np.float16)
    for name, array in tensors.items():
        writer.add_tensor(name, array)
    quantized = package.quants.quantize(tensors["t0"], package.GGMLQuantizationType.Q8_0)
    writer.add_tensor("q", quantized, raw_dtype=package.GGMLQuantizationType.Q8_0)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return {**tensors, "q": quantized}


def assert_is_the_packages(file: GGUFFile | GGUFFiles, tensors: dict[str, np.ndarray]) -> None:
    metadata = file.metadata
    assert metadata.text("general.architecture") == "llama"
    for kind, values in NUMBERS.items():
        for number, value in enumerate(values):
            assert metadata.kind(f"{kind}.{number}") == (kind, None)
            assert metadata[f"{kind}.{number}"] == value
    assert metadata.array("i32.all", ValueType.I32).tolist() == [-1, 2]
    assert metadata.array("f32.all", ValueType.F32).tolist() == [0.5, -2.0]
    assert metadata.strings("texts") == tuple(TEXTS)
    assert file.names() == sorted(tensors)
    for name, array in tensors.items():
        assert file.read(name).data.tobytes() == array.tobytes()
        assert file.info(name).shape == ((3, 32) if name == "q" else array.shape)


@pytest.mark.parity
def test_a_file_of_the_gguf_package_is_read_with_equal_values(tmp_path):
    tensors = written_by_the_package(tmp_path / "a.gguf")
    with GGUFFile(tmp_path / "a.gguf") as file:
        assert_is_the_packages(file, tensors)
    with GGUFFiles(tmp_path / "a.gguf") as files:
        assert_is_the_packages(files, tensors)


@pytest.mark.parity
def test_parts_of_the_gguf_package_are_read_as_one_model(tmp_path):
    tensors = written_by_the_package(tmp_path / "a.gguf", split_max_tensors=2)
    with GGUFFiles(tmp_path / "a-00001-of-00003.gguf") as files:
        assert_is_the_packages(files, tensors)
        assert len(files.files) == 3
        assert not any(key.startswith("split.") for key in files.metadata)
