"""Malformed safetensors files, built from bytes: each ends in one typed error that says what."""

import json
import os
import struct
import subprocess
import sys
from pathlib import Path

import pytest
import safetensors
from safetensors.numpy import load

from canary import refuses_and_only_reads
from entrenar_common.errors import EntrenarError, FormatError, NotFoundError, UnsupportedError
from entrenar_core.io.safetensors import SafetensorsFile

LFS_POINTER = (
    b"version https://git-lfs.github.com/spec/v1\noid sha256:"
    b"4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\nsize 548118077\n"
)


def raw(header: bytes, data: bytes = b"") -> bytes:
    return struct.pack("<Q", len(header)) + header + data


def tensor(dtype: object = "U8", shape: object = (4,), offsets: object = (0, 4)) -> dict:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


def build(data: bytes = b"\1\2\3\4", **entries: object) -> bytes:
    return raw(json.dumps(entries).encode(), data)


def entry(text: str, data: bytes = b"\1\2\3\4") -> bytes:
    """A file with one tensor `a` whose entry is this text."""
    return raw(b'{"a":' + text.encode() + b"}", data)


SMALL = build(
    a=tensor("F32", [2], [0, 8]),
    b=tensor("I16", [1, 3], [8, 14]),
    __metadata__={"format": "pt"},
    data=struct.pack("<2f3h", 1.5, -2.0, 1, 2, 3),
)

BAD: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "empty file"),
    "1 byte": (b"\x08", "shorter than the 8-byte length"),
    "7 bytes": (b"\x08" * 7, "shorter than the 8-byte length"),
    "length 2^64-1": (b"\xff" * 8 + b"{}", "header length 18446744073709551615 exceeds"),
    "length 2^63": (struct.pack("<Q", 2**63) + b"{}", "header length 9223372036854775808 exceeds"),
    "length 10^8+1": (struct.pack("<Q", 10**8 + 1) + b"{}", "header length 100000001 exceeds"),
    "length past end": (struct.pack("<Q", 3) + b"{}", "runs past the end"),
    "length 0": (raw(b""), "header length 0"),
    "length 1": (raw(b"{"), "header length 1"),
    "lfs pointer": (LFS_POINTER, "this is a Git LFS pointer, not weights"),
    "html": (b"<!DOCTYPE html>\n<html><body>502</body></html>", "looks like HTML"),
    "html after space": (b"\r\n <HTML>".ljust(40), "looks like HTML"),
    "json": (b'{"error": "Repository not found"}', "looks like JSON"),
    "gzip": (b"\x1f\x8b\x08\x00abcdefgh", "this is a gzip archive, named .safetensors"),
    "zip": (b"PK\x03\x04" + b"\x00\x08" * 20, "this is a zip archive"),
    "gguf": (b"GGUF" + struct.pack("<IQQ", 3, 1, 1), "this is a GGUF file, named .safetensors"),
    "pickle": (b"\x80\x02}q\x00X\x01\x00\x00\x00", "this is a Python pickle"),
    "npy": (b"\x93NUMPY\x01\x00v\x00", "this is a numpy array"),
    "hdf5": (b"\x89HDF\r\n\x1a\n" + b"\0" * 8, "this is an HDF5 file"),
    "not utf-8": (raw(b'{"\xff":1}'), r"not UTF-8 \(at byte 10\)"),
    "overlong utf-8": (raw(b'{"\xc0\xaf":1}'), "not UTF-8"),
    "encoded surrogate": (raw(b'{"\xed\xa0\x80":1}'), "not UTF-8"),
    "escaped surrogate": (raw(b'{"\\ud800":{}}'), "lone surrogate"),
    "leading space": (raw(b" {}"), "does not start with"),
    "bom": (raw(b"\xef\xbb\xbf{}"), "does not start with"),
    "utf-16": (raw("{}".encode("utf-16-le")), "does not end with|not valid JSON"),
    "tab padding": (raw(b"{}\t"), "does not end with"),
    "nul padding": (raw(b"{}\0"), "does not end with"),
    "two values": (raw(b"{}{}"), "not valid JSON"),
    "duplicate tensor": (
        raw(b'{"a":%s,"a":%s}' % ((json.dumps(tensor()).encode(),) * 2), b"\1\2\3\4"),
        "duplicate key 'a'",
    ),
    "duplicate dtype": (
        entry('{"dtype":"U8","dtype":"I8","shape":[4],"data_offsets":[0,4]}'),
        "duplicate key 'dtype'",
    ),
    "deep lists": (raw(b'{"a":' + b"[" * 200_000 + b"]" * 200_000 + b"}"), "nested"),
    "deep maps": (raw(b'{"a":' * 200_000 + b"1" + b"}" * 200_000), "nested"),
    "5000 digits": (entry(f'{{"dtype":"U8","shape":[{"9" * 5000}]}}'), "whole number"),
    "4000 digits": (entry(f'{{"dtype":"U8","shape":[{"9" * 4000}]}}'), "whole number"),
    "float shape": (build(a=tensor(shape=[4.0])), "4.0 is not a whole number"),
    "bool shape": (build(a=tensor(shape=[True])), "shape is not a list of whole numbers"),
    "text shape": (build(a=tensor(shape="4")), "shape is not a list"),
    "null shape": (build(a=tensor(shape=None)), "shape is not a list"),
    "negative shape": (build(a=tensor(shape=[-1])), "-1 is not a whole number"),
    "minus zero": (entry('{"dtype":"U8","shape":[-0],"data_offsets":[0,0]}', b""), "-0 is not"),
    "1e3": (entry('{"dtype":"U8","shape":[1e3],"data_offsets":[0,4]}'), "1e3 is not a whole"),
    "NaN": (entry('{"dtype":"U8","shape":[NaN],"data_offsets":[0,4]}'), "NaN"),
    "Infinity": (entry('{"dtype":"U8","shape":[Infinity],"data_offsets":[0,4]}'), "Infinity"),
    "product wraps to 4": (
        build(a=tensor(shape=[4194305, 4194305, 211106198978564])),
        "too large to exist",
    ),
    "huge and empty": (
        build(b"", a=tensor(shape=[2**62, 4, 0], offsets=[0, 0])),
        "too large to exist",
    ),
    "17 dimensions": (build(a=tensor(shape=[4] + [1] * 16)), "17 dimensions"),
    "begin after end": (build(a=tensor(offsets=[4, 0])), "a begin and an end"),
    "negative offset": (build(a=tensor(offsets=[-4, 0])), "-4 is not a whole number"),
    "three offsets": (build(a=tensor(offsets=[0, 4, 8])), "a begin and an end"),
    "no offsets": (build(a={"dtype": "U8", "shape": [4]}), "exactly dtype, shape and data_offsets"),
    "extra key": (build(a={**tensor(), "_target_": "os.system"}), "exactly dtype, shape"),
    "entry is a list": (build(a=[1, 2]), "exactly dtype, shape and data_offsets"),
    "dtype is a number": (build(a=tensor(dtype=1)), "dtype is not text"),
    "wrong size": (build(a=tensor("F32", [2], [0, 4])), "takes 8 bytes, data_offsets span 4"),
    "overlap": (build(a=tensor(), b=tensor(shape=[2], offsets=[2, 4])), "'b' overlaps"),
    "same place twice": (build(a=tensor(), b=tensor()), "overlaps"),
    "hole": (
        build(b"\0" * 8, a=tensor(shape=[2], offsets=[0, 2]), b=tensor(offsets=[4, 8])),
        "'b' follows a hole",
    ),
    "begin not 0": (build(b"\0" * 8, a=tensor(offsets=[4, 8])), "begins at 4, not at 0"),
    "appended zip": (build(b"\1\2\3\4PK\3\4", a=tensor()), "4 unexpected bytes after the tensor"),
    "data without tensors": (raw(b"{}", b"x"), "1 unexpected bytes"),
    "one byte short": (build(b"\1\2\3", a=tensor()), "1 bytes past the end of the file"),
    "odd number of 4-bit elements": (
        build(b"\0\0", a=tensor("F4", [3], [0, 2])),
        "3 elements of F4 do not fill whole bytes",
    ),
    "metadata is a list": (build(b"", __metadata__=["x"]), "__metadata__ is not a map"),
    "metadata of numbers": (build(b"", __metadata__={"step": 3}), "__metadata__ is not a map"),
    "nested metadata": (build(b"", __metadata__={"a": {"b": "c"}}), "__metadata__ is not a map"),
    "50 MB of metadata": (
        build(b"", __metadata__={"a": "x" * 50_000_000}),
        "longer than the limit",
    ),
    "control character in name": (build(**{"a\x1b[31m": tensor()}), r"control characters"),
    "long name": (build(**{"a" * 1025: tensor()}), "longer than 1024 bytes"),
}


def write(folder: Path, data: bytes) -> Path:
    path = folder / "model.safetensors"
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    "case", [pytest.param(c, marks=[pytest.mark.tier2] * (len(BAD[c][0]) > 10**7)) for c in BAD]
)
def test_a_malformed_file_is_a_format_error_that_says_what(ram_path, case):
    data, said = BAD[case]
    path = write(ram_path, data)
    with pytest.raises(FormatError, match=said) as caught:
        SafetensorsFile(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert caught.value.hint
    assert message.isprintable()
    assert len(message) < 400


def test_a_pointer_says_how_to_get_the_weights(ram_path):
    with pytest.raises(FormatError) as caught:
        SafetensorsFile(write(ram_path, LFS_POINTER))
    assert caught.value.hint == "run: git lfs pull"


@pytest.mark.parametrize("name", ["F7", "F32\x1b[2J", "torch.float32", ""])
def test_an_unknown_element_type_is_unsupported(ram_path, name):
    path = write(ram_path, build(a=tensor(name)))
    with pytest.raises(UnsupportedError, match="tensor 'a': unknown element type") as caught:
        SafetensorsFile(path)
    assert str(caught.value).isprintable()


def test_elements_smaller_than_a_byte_open_but_cannot_be_read(ram_path):
    path = write(ram_path, build(a=tensor("F4", [8])))
    with SafetensorsFile(path) as file:
        assert file.info("a").shape == (8,)
        with pytest.raises(UnsupportedError, match="4 bits per element"):
            file.read("a")


def test_truncation_at_every_length_is_a_format_error(ram_path):
    for length in range(len(SMALL)):
        with pytest.raises(FormatError):
            SafetensorsFile(write(ram_path, SMALL[:length]))


def agrees_with_library(path: Path, data: bytes) -> bool:
    """Whether the file is accepted; if so, its values must be those the library reads."""
    path.write_bytes(data)
    try:
        with SafetensorsFile(path) as file:
            ours = {name: file.read(name) for name in file.names()}
    except EntrenarError as error:
        assert str(error).startswith(str(path))
        return False
    theirs = load(data)
    assert ours.keys() == theirs.keys()
    for name, array in ours.items():
        assert array.dtype == theirs[name].dtype
        assert array.shape == theirs[name].shape
        assert array.tobytes() == theirs[name].tobytes()
    return True


def test_the_small_file_is_read_as_the_library_reads_it(ram_path):
    assert agrees_with_library(ram_path / "a", SMALL)


def mutations(values: list[int]) -> list[bytes]:
    found = []
    for place in range(len(SMALL)):
        new = {value % 256 for value in values} | {SMALL[place] ^ (1 << bit) for bit in range(8)}
        found += [SMALL[:place] + bytes([v]) + SMALL[place + 1 :] for v in new if v != SMALL[place]]
    return found


@pytest.mark.tier2
def test_every_flipped_bit_is_refused_or_read_as_the_library_reads_it(ram_path):
    accepted = [
        agrees_with_library(ram_path / "a", data) for data in mutations([0, 1, 127, 128, 255])
    ]
    assert any(accepted)
    assert not all(accepted)


@pytest.mark.tier3
def test_every_byte_set_to_every_value_is_refused_or_read_as_the_library_reads_it(ram_path):
    for data in mutations(list(range(256))):
        agrees_with_library(ram_path / "a", data)


def library_accepts(data: bytes) -> bool:
    try:
        load(data)
    except (safetensors.SafetensorError, KeyError, ValueError):
        return False
    return True


def test_what_only_we_refuse_is_known():
    cases = [case for case in BAD if case != "50 MB of metadata"]
    assert {case for case in cases if library_accepts(BAD[case][0])} == {
        "leading space",
        "tab padding",
        "duplicate tensor",
        "17 dimensions",
        "extra key",
        "control character in name",
        "long name",
    }


@pytest.mark.tier2
def test_a_bad_file_costs_no_memory_and_no_time(ram_path):
    """All bad files but the large ones, in a process that may not take more than 64 MB more."""
    for number, (data, _) in enumerate(BAD.values()):
        if len(data) < 3_000_000:
            (ram_path / f"{number}.safetensors").write_bytes(data)
    script = (
        "import resource, sys; from pathlib import Path\n"
        "from entrenar_common.errors import FormatError\n"
        "from entrenar_core.io.safetensors import SafetensorsFile\n"
        "used = int(Path('/proc/self/statm').read_text().split()[0]) * resource.getpagesize()\n"
        "resource.setrlimit(resource.RLIMIT_AS, (used + 64 * 10**6,) * 2)\n"
        "resource.setrlimit(resource.RLIMIT_CPU, (5, 5))\n"
        "for path in Path(sys.argv[1]).iterdir():\n"
        "    try: SafetensorsFile(path)\n"
        "    except FormatError: continue\n"
        "    sys.exit(f'{path} was accepted')\n"
    )
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
    subprocess.run([sys.executable, "-c", script, ram_path], check=True, env=environment)


@pytest.mark.tier2
def test_no_bad_file_makes_the_process_do_anything_but_read_it(ram_path):
    bad = [data for data, _ in BAD.values() if len(data) < 10**7]
    refuses_and_only_reads(SafetensorsFile, bad, [SMALL], ram_path)


def test_what_is_not_a_file_is_not_found(ram_path):
    os.mkfifo(ram_path / "pipe")
    for path in (ram_path / "none", ram_path, ram_path / "pipe", Path("/dev/null")):
        with pytest.raises(NotFoundError, match=path.name):
            SafetensorsFile(path)


def test_text_in_metadata_is_never_interpreted(ram_path):
    text = {"_target_": "os.system", "x": "{{ 7*7 }}", "y": "\x1b[31m"}
    with SafetensorsFile(write(ram_path, build(b"", __metadata__=text))) as file:
        assert file.metadata == text


@pytest.mark.parametrize(
    "data",
    [
        raw(b"{}"),
        raw(b"{}      "),
        build(b"", a=tensor("F32", [0], [0, 0]), b=tensor("F32", [3, 0], [0, 0])),
        build(a=tensor("F32", [], [0, 4])),
        build(a=tensor("F32", [1], [0, 4]), b=tensor("U8", [0], [4, 4])),
        build(b"", __metadata__={}),
        raw('{"ü 漢":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}}'.encode(), b"abcd"),
    ],
)
def test_what_is_odd_but_legal_is_accepted(ram_path, data):
    assert agrees_with_library(ram_path / "a", data)


def test_leaks_no_descriptor(ram_path):
    path = write(ram_path, SMALL[:-1])
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(FormatError):
        SafetensorsFile(path)
    with SafetensorsFile(write(ram_path, SMALL)) as file:
        file.read("a")
    del file
    assert len(os.listdir("/proc/self/fd")) == before
