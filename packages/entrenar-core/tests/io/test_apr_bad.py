"""Malformed APR files, built from text: each ends in one typed error that says what and where."""

import base64
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from canary import refuses_and_only_reads
from entrenar_common.errors import EntrenarError, FormatError, UnsupportedError
from entrenar_core.io.apr import APRFile
from entrenar_core.io.dtypes import DTYPES

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
    types = {dtype.name: dtype.numpy for dtype in DTYPES}
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


@pytest.mark.tier2
def test_no_bad_file_makes_the_process_do_anything_but_read_it(ram_path):
    refuses_and_only_reads(APRFile, [data for data, _ in BAD.values()], [SMALL], ram_path)


def test_leaks_no_descriptor(ram_path):
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(FormatError):
        APRFile(write(ram_path, SMALL[:-1]))
    read_all(write(ram_path, SMALL))
    assert len(os.listdir("/proc/self/fd")) == before
