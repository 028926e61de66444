"""APR files, good and bad; the standard library's json and base64 are the other reader."""

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
    EntrenarError,
    FormatError,
    IntegrityError,
    NotFoundError,
    StorageError,
    UnsupportedError,
)
from entrenar_core.io import apr_file, apr_write
from entrenar_core.io.apr import APRFile, write_apr
from entrenar_core.io.dtypes import DTYPES
from entrenar_core.io.faults import inject
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


# --- malformed ones

W = '{"name": "w", "dtype": "U8", "shape": [4], "data": "AQIDBA=="}'
HEAD = '{"format": "apr", "version": 1, "metadata": {}, "tensors": ['
SMALL = (
    HEAD + W + ',{"name":"v","dtype":"F32","shape":[1,2],"data":"AACAPwAAAEA="}]}'
).encode()  # fmt: skip


def document(*tensors: str) -> bytes:
    return (HEAD + ",".join(tensors) + "]}").encode()


def entry(name='"w"', dtype='"U8"', shape="[4]", data='"AQIDBA=="', more="") -> bytes:
    return document(f'{{"name": {name}, "dtype": {dtype}, "shape": {shape}, "data": {data}{more}}}')


def top(form='"apr"', version="1", metadata="{}", tensors="[]", more="") -> bytes:
    return (
        f'{{"format": {form}, "version": {version}, "metadata": {metadata}, '
        f'"tensors": {tensors}{more}}}'
    ).encode()


BAD: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "empty file"),
    "lfs": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "Git LFS pointer"),
    "html": (b"<html></html>", "looks like HTML"),
    "zip": (b"PK\x03\x04" + bytes(40), "this is a zip archive .*named .apr"),
    "safetensors": (b"\x02" + bytes(7) + b"{}", "this is a safetensors file, named .apr"),
    "byte order mark": (b"\xef\xbb\xbf" + top(), "looks like JSON, not weights"),
    "utf-16": (top().decode().encode("utf-16-le"), "text in quotes is wanted"),
    "a list": (b"[]", "looks like JSON, not weights"),
    "other JSON": (b'{"error": "not found"}', "unknown key 'error' in the document"),
    "no keys": (b"{}", "text in quotes is wanted"),
    "no tensors": (b'{"format": "apr", "version": 1, "metadata": {}}', "document has no 'tensors'"),
    "no metadata": (b'{"format": "apr", "version": 1, "tensors": []}', "has no 'metadata'"),
    "other format": (top('"gguf"'), r"the format is not 'apr' \(at byte 11\)"),
    "format is a number": (top("1"), "text in quotes is wanted"),
    "version is text": (top(version='"1"'), "a number is wanted"),
    "unknown key": (top(more=', "extra": 1'), "unknown key 'extra' in the document"),
    "duplicate key": (top(more=', "version": 1'), "duplicate key 'version' in the document"),
    "duplicate key, escaped": (top(more=', "versio\\u006e": 1'), "duplicate key 'version'"),
    "comma at the end": (top(more=","), "text in quotes is wanted"),
    "two documents": (top() + top(), "unexpected bytes after the document"),
    "rubbish after": (top() + b"\0", "1 unexpected bytes after the document"),
    "metadata is a list": (top(metadata="[]"), "'{' is wanted"),
    "metadata is null": (top(metadata="null"), "'{' is wanted"),
    "NaN in metadata": (top(metadata='{"a": NaN}'), "NaN is not JSON"),
    "long integer in metadata": (top(metadata='{"a": 12345678901234567890}'), "20 digits"),
    "duplicate key in metadata": (top(metadata='{"a": 1, "a": 2}'), "duplicate key 'a'"),
    "surrogate in metadata": (top(metadata='{"a": "\\ud800"}'), "lone surrogate"),
    "metadata is not UTF-8": (top(metadata='{"X": 1}').replace(b"X", b"\xff"), "not UTF-8"),
    "deep metadata": (top(metadata='{"a":' * 2000 + "1" + "}" * 2000), "nested"),
    "wrong brackets in metadata": (top(metadata='{"a": ]}'), "not valid JSON|metadata without"),
    "endless metadata": (top(metadata='{"a": ')[:50], "metadata without an end"),
    "tensors are an object": (top(tensors="{}"), r"'\[' is wanted"),
    "tensor is a number": (document("1"), "'{' is wanted"),
    "comma after the last tensor": (document(W, ""), "'{' is wanted"),
    "no comma between tensors": (document(W + W), "']' is wanted"),
    "tensor twice": (document(W, W), "tensor 'w' is there twice"),
    "tensor twice, escaped": (document(W, W.replace('"w"', '"\\u0077"')), "'w' is there twice"),
    "tensor without data": (document('{"name": "w", "dtype": "U8", "shape": [0]}'), "no 'data'"),
    "unknown key of a tensor": (entry(more=', "_target_": "x"'), "unknown key '_target_'"),
    "duplicate key of a tensor": (entry(more=', "shape": [4]'), "duplicate key 'shape'"),
    "name is a number": (entry("1"), "text in quotes is wanted"),
    "name is not UTF-8": (entry('"X"').replace(b"X", b"\xc0\xaf"), "not UTF-8"),
    "surrogate in name": (entry('"\\udc00"'), "lone surrogate"),
    "control character": (entry('"\x1b"'), "text in quotes is wanted"),
    "escaped control character": (entry('"\\u001b"'), "control characters"),
    "long name": (entry('"' + "a" * 1025 + '"'), "longer than 1024 bytes"),
    "very long name": (entry('"' + "a" * 100_000 + '"'), "text in quotes is wanted, of at most"),
    "bad escape": (entry('"\\x"'), "not valid JSON"),
    "shape is text": (entry(shape='"4"'), "a list of numbers is wanted"),
    "shape is a fraction": (entry(shape="[4.0]"), "not a list of at most 16 whole numbers"),
    "shape is true": (entry(shape="[true]"), "shape is not a list"),
    "shape is nested": (entry(shape="[[4]]"), "a list of numbers is wanted"),
    "negative shape": (entry(shape="[-4]"), "not a list of at most 16 whole numbers"),
    "17 dimensions": (entry(shape=str([1] * 16 + [4])), "at most 16 whole numbers"),
    "20 digits": (entry(shape="[44444444444444444444]"), "an integer of 20 digits"),
    "product wraps": (
        entry(shape="[4194305, 4194305, 211106198978564]"), "too large to exist"),
    "huge and empty": (entry(shape=f"[{2**62}, 4, 0]", data='""'), "too large to exist"),
    "large and absent": (
        entry(shape="[1000000000000]"), "takes 1333333333336 characters of base64, data has 8"),
    "data too short": (entry(data='"AQID"'), "takes 8 characters of base64, data has 4"),
    "data too long": (entry(data='"AQIDBAUGBwg="'), "takes 8 characters of base64, data has 12"),
    "data is a number": (entry(data="1"), "'\"' is wanted"),
    "endless data": (entry()[:-8], "data without an end: the file is truncated"),
    "rows are no whole blocks": (entry(dtype='"q8_0"', shape="[33]"), "no whole number of q8_0"),
    "one number in blocks": (entry(dtype='"q8_0"', shape="[]"), "no whole number of q8_0 blocks"),
}  # fmt: skip

MALFORMED_BASE64: dict[str, str] = {
    "line break": "AQID\nA==",
    "escape": "AQ\\nBA==",
    "url-safe": "AQ-_BA==",
    "padding in the middle": "AQ==BA==",
    "too little padding": "AQIDBAUG",
    "too much padding": "AQIDB===",
    "unused bits": "AQIDBB==",
    "not ASCII": "AQIDé==",
    "spaces": "    BA==",
    "nothing but padding": "========",
}


def write(folder: Path, data: bytes) -> Path:
    path = folder / "model.apr"
    path.write_bytes(data)
    return path


def read_all(path: Path) -> dict[str, tuple]:
    with APRFile(path) as file:
        found = {name: file.read(name) for name in file.names()}
    return {name: (array.dtype, array.shape, array.tobytes()) for name, array in found.items()}


@pytest.mark.parametrize("case", BAD)
def test_a_malformed_file_is_a_format_error_that_says_what(ram_path, case):
    data, said = BAD[case]
    path = write(ram_path, data)
    with pytest.raises(FormatError, match=said) as caught:
        APRFile(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert caught.value.hint
    assert message.isprintable()
    assert len(message) < 400


@pytest.mark.parametrize("case", MALFORMED_BASE64)
def test_base64_that_is_not_canonical_is_refused_when_it_is_read(ram_path, case):
    path = write(ram_path, entry(data=f'"{MALFORMED_BASE64[case]}"'))
    with APRFile(path) as file, pytest.raises(FormatError, match=r"'w': its base64.*in bytes"):
        file.read("w")


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (entry(dtype='"F7"'), "unknown element type 'F7'"),
        (entry(dtype='"f32"'), "unknown element type 'f32'"),
        (entry(dtype='"F4"', data='"AQI="'), "unknown element type 'F4'"),
        (entry(dtype='"U8\\u001b"'), "unknown element type"),
        (top(version="2"), "version 2 of the format is not known"),
        (top(version="1.0"), "version 1.0 of the format is not known"),
    ],
)
def test_what_is_not_known_is_unsupported(ram_path, data, said):
    with pytest.raises(UnsupportedError, match=said) as caught:
        APRFile(write(ram_path, data))
    assert str(caught.value).isprintable()


def test_truncation_at_every_length_is_a_format_error(ram_path):
    for length in range(len(SMALL)):
        with pytest.raises(FormatError):
            APRFile(write(ram_path, SMALL[:length]))


def agrees_with_json(path: Path, data: bytes) -> bool:
    """Whether the file is accepted; if so, its values must be those the standard library reads."""
    path.write_bytes(data)
    try:
        ours = read_all(path)
    except EntrenarError as error:
        assert str(error).startswith(str(path))
        return False
    found = theirs_strictly(data)
    assert ours == found
    return True


def theirs_strictly(data: bytes) -> dict[str, tuple]:
    tensors = json.loads(data.decode("utf-8"))["tensors"]
    types = {dtype.name: dtype.numpy for dtype in ARRAY_TYPES}
    return {
        t["name"]: (
            types[t["dtype"]],
            tuple(t["shape"]),
            base64.b64decode(t["data"], validate=True),
        )
        for t in tensors
    }


def test_the_small_file_is_read_as_the_standard_library_reads_it(ram_path):
    assert agrees_with_json(ram_path / "a", SMALL)


@pytest.mark.tier2
def test_every_changed_byte_is_refused_or_read_as_the_standard_library_reads_it(ram_path):
    accepted = []
    for place, before in enumerate(SMALL):
        new = {0, 1, 0x7F, 0x80, 0xFF} | {before ^ (1 << bit) for bit in range(8)}
        for byte in new - {before}:
            data = SMALL[:place] + bytes([byte]) + SMALL[place + 1 :]
            accepted.append(agrees_with_json(ram_path / "a", data))
    assert any(accepted)
    assert not all(accepted)


@pytest.mark.tier2
def test_a_bad_file_costs_no_memory_and_no_time(ram_path):
    for number, (data, _) in enumerate(BAD.values()):
        (ram_path / f"{number}.apr").write_bytes(data)
    script = (
        "import resource, sys; from pathlib import Path\n"
        "from entrenar_common.errors import FormatError\n"
        "from entrenar_core.io.apr import APRFile\n"
        "used = int(Path('/proc/self/statm').read_text().split()[0]) * resource.getpagesize()\n"
        "resource.setrlimit(resource.RLIMIT_AS, (used + 64 * 10**6,) * 2)\n"
        "resource.setrlimit(resource.RLIMIT_CPU, (5, 5))\n"
        "for path in Path(sys.argv[1]).iterdir():\n"
        "    try: APRFile(path)\n"
        "    except FormatError: continue\n"
        "    sys.exit(f'{path} was accepted')\n"
    )
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
    subprocess.run([sys.executable, "-c", script, ram_path], check=True, env=environment)


def test_leaks_no_descriptor(ram_path):
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(FormatError):
        APRFile(write(ram_path, SMALL[:-1]))
    read_all(write(ram_path, SMALL))
    assert len(os.listdir("/proc/self/fd")) == before


def test_bfloat16_means_the_upper_half_of_float32(tmp_path):
    values = np.array([1.0, -2.5, 3.140625, np.inf], np.float32)  # exact in 8 bits
    write_apr(tmp_path / "a", {"w": values.astype(ml_dtypes.bfloat16)})
    assert theirs(tmp_path / "a")["w"][2] == (values.view(np.uint32) >> 16).astype("<u2").tobytes()
