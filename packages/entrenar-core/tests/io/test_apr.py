"""APR files; the standard library's json and base64 are the other reader."""

import base64
import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from entrenar_common.errors import (
    ConfigError,
    FormatError,
    IntegrityError,
    NotFoundError,
    StorageError,
    UnsupportedError,
)
from entrenar_core.io import apr_file, apr_write
from entrenar_core.io.apr import APRFile, is_apr, write_apr
from entrenar_core.io.dtypes import DTYPES
from entrenar_core.io.faults import inject
from entrenar_core.io.safetensors import SafetensorsFile
from entrenar_core.quant import BY_NUMBER, BlockArray, quantize

ARRAY_TYPES = [dtype for dtype in DTYPES if dtype.numpy is not None]
BLOCKS = [form for form in BY_NUMBER.values() if form.block > 1]
DOCUMENTATION = Path(__file__).parents[4] / "docs" / "apr.md"


def some_tensors() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    found = {
        f"layer.{i}.{dtype.name}": rng.integers(0, 2, (2, i % 4 + 1)).astype(dtype.numpy)
        for i, dtype in enumerate(ARRAY_TYPES)
    }
    base = np.arange(24, dtype=np.float32).reshape(4, 6)
    return {
        **found,
        "scalar": np.array(3.5),
        "empty": np.zeros((2, 0), np.float32),
        'ü "quoted" \\': np.ones(3, np.int8),
        "transposed": base.T,
        "big": base.astype(">f4"),
    }


def wanted(array: np.ndarray) -> tuple:
    found = array.astype(array.dtype.newbyteorder("="))
    return found.dtype, found.shape, found.tobytes()


def theirs(path: Path) -> dict[str, tuple[str, list[int], bytes]]:
    """Type, shape and bytes of each tensor, read with the standard library."""
    document = json.loads(path.read_text(encoding="utf-8"))
    assert list(document) == ["format", "version", "metadata", "tensors"]
    return {
        t["name"]: (t["dtype"], t["shape"], base64.b64decode(t["data"], validate=True))
        for t in document["tensors"]
    }


def test_what_is_written_is_what_the_standard_library_reads(tmp_path):
    tensors = some_tensors()
    metadata = {"config": {"a": [1, 2.5, None, True, 'é}"{']}}
    written = write_apr(tmp_path / "a", tensors, metadata=metadata)
    assert written.size == (tmp_path / "a").stat().st_size
    found = theirs(tmp_path / "a")
    assert list(found) == list(tensors)
    names = {dtype.numpy: dtype.name for dtype in ARRAY_TYPES}
    for name, array in tensors.items():
        dtype, shape, data = wanted(array)
        assert found[name] == (names[dtype], list(shape), data)
    assert json.loads((tmp_path / "a").read_text())["metadata"] == metadata


def test_what_is_written_is_read_back_bit_for_bit(tmp_path):
    tensors = some_tensors()
    write_apr(tmp_path / "a", tensors, metadata={"x": {"y": [{}]}})
    with APRFile(tmp_path / "a") as file:
        assert file.names() == sorted(tensors)
        assert file.metadata == {"x": {"y": [{}]}}
        assert file.parameter_count == sum(array.size for array in tensors.values())
        for name, array in tensors.items():
            found = file.read(name)
            assert (found.dtype, found.shape, found.tobytes()) == wanted(array)
            assert file.info(name).nbytes == array.nbytes
            assert not found.flags.writeable
            file.release(name)


@pytest.mark.parametrize("form", BLOCKS, ids=lambda form: form.name)
def test_blocks_are_kept_as_they_are(tmp_path, form):
    raw = np.random.default_rng(0).integers(0, 256, (3, 2 * form.block_bytes), dtype=np.uint8)
    stored = form.wrap(raw, (3, 2 * form.block))
    write_apr(tmp_path / "a", {"w": stored})
    assert theirs(tmp_path / "a")["w"] == (form.name, [3, 2 * form.block], raw.tobytes())
    with APRFile(tmp_path / "a") as file:
        found = file.read_blocks("w")
        assert (found.form, found.shape) == (form, stored.shape)
        np.testing.assert_array_equal(found.data, raw)
        assert file.parameter_count == 6 * form.block


def test_blocks_are_read_as_the_floats_that_they_stand_for(tmp_path):
    stored = quantize(np.linspace(-1, 1, 64, dtype=np.float32).reshape(2, 32), "q8_0")
    assert isinstance(stored, BlockArray)
    write_apr(tmp_path / "a", {"w": stored, "v": np.ones(2)})
    with APRFile(tmp_path / "a") as file:
        np.testing.assert_array_equal(file.read("w"), stored.dequantize())
        assert not file.read("w").flags.writeable
        with pytest.raises(FormatError, match="'v' is F64, not in blocks"):
            file.read_blocks("v")


@pytest.mark.parametrize("size", [1, 2, 3, 4, 11, 12, 13, 24, 25])
def test_data_is_encoded_and_decoded_in_parts(tmp_path, monkeypatch, size):
    monkeypatch.setattr(apr_write, "_CHUNK", 12)
    monkeypatch.setattr(apr_file, "_CHUNK", 8)
    array = np.arange(size, dtype=np.uint8)
    write_apr(tmp_path / "a", {"w": array})
    assert theirs(tmp_path / "a")["w"][2] == array.tobytes()
    with APRFile(tmp_path / "a") as file:
        np.testing.assert_array_equal(file.read("w"), array)


def test_the_example_of_the_documentation_is_read(tmp_path):
    text = DOCUMENTATION.read_text(encoding="utf-8")
    (tmp_path / "a").write_text(text.partition("```json\n")[2].partition("```")[0])
    with APRFile(tmp_path / "a") as file:
        assert file.metadata == {"config": {"hidden_size": 2}}
        np.testing.assert_array_equal(file.read("norm.weight"), [1, 2])
        np.testing.assert_array_equal(file.read("head.weight"), [range(1, 33)])


def test_the_writer_writes_the_example_of_the_documentation(tmp_path):
    text = DOCUMENTATION.read_text(encoding="utf-8")
    raw = np.frombuffer(np.float16(1).tobytes() + bytes(range(1, 33)), np.uint8)
    tensors = {
        "norm.weight": np.array([1, 2], np.float32),
        "head.weight": BY_NUMBER[8].wrap(raw, (1, 32)),
    }
    write_apr(tmp_path / "a", tensors, metadata={"config": {"hidden_size": 2}})
    example = text.partition("```json\n")[2].partition("\n```")[0]
    assert (tmp_path / "a").read_text(encoding="utf-8") == example


def test_json_of_another_writer_is_read(tmp_path):
    """Another order of keys, other white space, everything escaped."""
    tensors = [{"data": "AQI=", "dtype": "U8", "name": "漢", "shape": [1, 2]}]
    document = {"tensors": tensors, "version": 1, "format": "apr", "metadata": {}}
    for text in (json.dumps(document), json.dumps(document, indent="\t") + "\r\n"):
        assert "\\u6f22" in text
        (tmp_path / "a").write_text(text)
        with APRFile(tmp_path / "a") as file:
            np.testing.assert_array_equal(file.read("漢"), [[1, 2]])


@pytest.mark.parametrize(
    "metadata", [{"a": float("nan")}, {"a": {1, 2}}, {"a": 10**30}, {"a": "\ud800"}, {"a": b"x"}]
)
def test_metadata_that_is_not_json_is_not_written(tmp_path, metadata):
    with pytest.raises(ConfigError, match="metadata cannot be written"):
        write_apr(tmp_path / "a", {}, metadata=metadata)
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_written_is_named(tmp_path):
    with pytest.raises(ConfigError, match="control characters"):
        write_apr(tmp_path / "a", {"w\n": np.zeros(1)})
    with pytest.raises(UnsupportedError, match=r"tensor 'w': .*complex128"):
        write_apr(tmp_path / "a", {"w": np.zeros(1, np.complex128)})
    with pytest.raises(UnsupportedError, match="f16 is not one of the format's types in blocks"):
        write_apr(tmp_path / "a", {"w": quantize(np.zeros(1), "f16")})
    assert list(tmp_path.iterdir()) == []


def test_a_failing_disk_keeps_the_old_file(tmp_path):
    write_apr(tmp_path / "a", {"w": np.zeros(3)})
    old = (tmp_path / "a").read_bytes()
    with inject(4, errno=errno.ENOSPC), pytest.raises(StorageError, match="ENOSPC"):
        write_apr(tmp_path / "a", {"w": np.ones(3)})
    assert (tmp_path / "a").read_bytes() == old
    assert len(list(tmp_path.iterdir())) == 1


def test_a_file_changed_in_place_is_noticed_before_it_is_read(tmp_path):
    write_apr(tmp_path / "a", {"w": np.zeros(3)})
    with APRFile(tmp_path / "a") as file:
        os.truncate(tmp_path / "a", 10)
        with pytest.raises(IntegrityError, match="changed"):
            file.read("w")


def test_a_missing_tensor_suggests_the_nearest(tmp_path):
    write_apr(tmp_path / "a", {"layer.0": np.zeros(3)})
    with APRFile(tmp_path / "a") as file, pytest.raises(NotFoundError) as caught:
        file.read("layers.0")
    assert caught.value.hint == "did you mean 'layer.0'?"


@pytest.mark.tier2
@pytest.mark.parametrize("action", ["write", "open"])
def test_100_mb_take_no_second_copy(tmp_path, action):
    write_apr(tmp_path / "a", {"w": np.ones(25_000_000, np.float32)})
    script = (
        "import resource, sys; import numpy as np\n"
        "from entrenar_core.io.apr import APRFile, write_apr\n"
        "array = np.ones(25_000_000, np.float32)\n"
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024\n"
        "status = lambda: open('/proc/self/status').read()\n"
        "own = lambda: 1024 * int(status().split('RssAnon:')[1].split()[0])  # without the map\n"
        "before = peak(), own()\n"
        "if sys.argv[2] == 'write':\n"
        "    write_apr(sys.argv[1], {'w': array}); print(peak() - before[0])\n"
        "else:\n"
        "    file = APRFile(sys.argv[1]); print(own() - before[1])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, tmp_path / "a", action],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert int(done.stdout) < 20_000_000


def test_bfloat16_means_the_upper_half_of_float32(tmp_path):
    values = np.array([1.0, -2.5, 3.140625, np.inf], np.float32)  # exact in 8 bits
    write_apr(tmp_path / "a", {"w": values.astype(ml_dtypes.bfloat16)})
    assert theirs(tmp_path / "a")["w"][2] == (values.view(np.uint32) >> 16).astype("<u2").tobytes()


def test_a_safetensors_file_whose_length_is_a_brace_is_no_apr_file(tmp_path):
    path = tmp_path / "model.safetensors"
    header = b'{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}'.ljust(ord("{"))
    path.write_bytes(len(header).to_bytes(8, "little") + header + b"\7")
    assert path.read_bytes().startswith(b"{")
    assert not is_apr(path)
    assert SafetensorsFile(path).read("a").tolist() == [7]
