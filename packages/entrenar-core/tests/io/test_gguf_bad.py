"""Malformed GGUF files, built from bytes: each ends in one typed error that says what."""

import os
import struct
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from entrenar_common.errors import EntrenarError, FormatError, NotFoundError, UnsupportedError
from entrenar_core.io.gguf import GGUFFile, Metadata, ValueType
from entrenar_core.io.gguf_header import parse_header
from gguf_bytes import (
    ARRAY,
    BOOL,
    F32,
    I8,
    I32,
    SMALL,
    SMALL_DATA,
    TEXT,
    U8,
    U32,
    Field,
    array,
    fields,
    pair,
    serialise,
    small_fields,
    tensor,
    text,
)

HEAD = b"GGUF" + struct.pack("<I", 3)
LFS_POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 548118077\n"


def counts(tensors: int, pairs: int, rest: bytes = bytes(20)) -> bytes:
    return HEAD + struct.pack("<QQ", tensors, pairs) + rest


def with_pairs(*pairs: list[Field]) -> bytes:
    return serialise(fields(pairs), b"")


def with_key(key: bytes) -> bytes:
    return with_pairs(pair(key, U32, (4, 1)))


def with_alignment(number: int, kind: int = U32, width: int = 4) -> bytes:
    return with_pairs(pair(b"general.alignment", kind, (width, number)))


def with_tensors(*tensors: list[Field], data: bytes = bytes(64)) -> bytes:
    return serialise(fields([], tensors), data)


def with_shape(*extents: int, kind: int = 0) -> bytes:
    return with_tensors(tensor(b"a", extents, kind), data=bytes(32))


def with_length(length: int) -> bytes:
    """A text value that says it has this length, at the file's end."""
    return serialise(fields([pair(b"key", TEXT, (8, length), b"abc")]))


BAD: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "empty file"),
    "1 byte": (b"G", "does not start with 'GGUF' but with 'G'"),
    "magic only": (b"GGUF", "4 bytes, shorter than the 24"),
    "bad magic": (b"GGUX" + HEAD[4:] + bytes(16), "does not start with 'GGUF' but with 'GGUX'"),
    "magic of controls": (b"\x1b[2J" + HEAD[4:] + bytes(16), r"but with '\\x1b\[2J'"),
    "version 0": (serialise(fields(version=0)), "GGUF version 0: only 2 and 3"),
    "version 1": (serialise(fields(version=1)), "GGUF version 1: only 2 and 3"),
    "version 4": (serialise(fields(version=4)), "GGUF version 4: only 2 and 3"),
    "lfs pointer": (LFS_POINTER, "this is a Git LFS pointer, not weights"),
    "html": (b"<!DOCTYPE html>\n<html><body>502</body></html>", "looks like HTML"),
    "zip": (b"PK\x03\x04" + b"\x00\x08" * 20, "this is a zip archive"),
    "before gguf": (b"tjgg" + bytes(40), "from before GGUF"),
    "2^63 tensors": (counts(2**63, 0), "9223372036854775808 tensors, more than the limit"),
    "2^63 pairs": (counts(0, 2**63), "9223372036854775808 metadata keys, more than the limit"),
    "10^8 tensors": (counts(10**8, 0), "100000000 tensors, more than the limit"),
    "10^8 pairs": (counts(0, 10**8), "100000000 metadata keys, more than the limit"),
    "more tensors than bytes": (counts(10**6, 0), "take at least 25000000 bytes, and 20 are left"),
    "more pairs than bytes": (counts(0, 60_000), "take at least 840000 bytes, and 20 are left"),
    "length 2^64-1": (with_length(2**64 - 1), "has 18446744073709551615 bytes, more"),
    "length 2^30+1": (with_length(2**30 + 1), "has 1073741825 bytes, more than the limit"),
    "length past end": (with_length(4), "takes 4 bytes, and 3 are left"),
    "key length 2^64-1": (counts(0, 1, b"\xff" * 20), "more than the limit of 65535"),
    "text not utf-8": (with_pairs(pair(b"key", TEXT, *text(b"a\xffb"))), r"not UTF-8 \(at byte 48"),
    "array of 2^30 at the end": (serialise(fields([array(b"k", U8, 2**30)])), "1073741824"),
    "array of 2^63": (serialise(fields([array(b"k", U8, 2**63)])), "9223372036854775808 elements"),
    "array whose size wraps": (serialise(fields([array(b"k", F32, 2**62)])), "more than 107"),
    "array past the end": (
        serialise(fields([array(b"k", U32, 2, bytes(7))])),
        "takes 8 bytes, and 7 are left",
    ),
    "texts past the end": (
        serialise(fields([array(b"k", TEXT, 3, *text(b"a"), *text(b"b"), (8, 9), bytes(8))])),
        r"text 2 of 3 \(at byte 67\) runs past the end",
    ),
    "5 million texts": (
        serialise(fields([array(b"k", TEXT, 5_000_000, bytes(40_000_000))])),
        "5000000 elements",
    ),
    "array of arrays": (with_pairs(array(b"k", ARRAY, 1, (4, U8), (8, 0))), "an array of arrays"),
    "value type 13": (with_pairs(pair(b"key", 13, bytes(8))), "unknown value type 13"),
    "value type -1": (with_pairs(pair(b"key", -1, bytes(8))), "unknown value type 4294967295"),
    "element type 13": (with_pairs(array(b"k", 13, 1, bytes(8))), "unknown value type 13"),
    "flag of 2": (with_pairs(pair(b"key", BOOL, (1, 2))), "a flag of 2"),
    "flag of 2 in an array": (with_pairs(array(b"k", BOOL, 3, b"\0\1\2")), "a flag of 2"),
    "empty key": (with_key(b""), r"\(at byte 24\) is empty"),
    "duplicate key": (
        with_pairs(pair(b"k", U32, (4, 1)), pair(b"k", U32, (4, 1))),
        "duplicate metadata key 'k'",
    ),
    "nul in a key": (with_key(b"general.alignment\0x"), "has control characters"),
    "escape in a key": (with_key(b"a\x1b[31m"), r"'a\\x1b\[31m'.* has control characters"),
    "key not utf-8": (with_key(b"a\xff"), "not UTF-8"),
    "long key": (with_key(b"a" * 2**16), "more than the limit of 65535"),
    "alignment 0": (with_alignment(0), "is 0, no power of two"),
    "alignment 1": (with_alignment(1), "is 1, no power of two from 8"),
    "alignment 3": (with_alignment(3), "is 3, no power of two"),
    "alignment 48": (with_alignment(48), "is 48, no power of two"),
    "alignment 2^31": (with_alignment(2**31), "is 2147483648, no power of two"),
    "alignment of type u64": (with_alignment(32, 10, 8), "is not a number of type u32"),
    "alignment of type i32": (with_alignment(32, I32), "is not a number of type u32"),
    "alignment in an array": (
        with_pairs(array(b"general.alignment", U32, 1, (4, 32))),
        "is not a number of type u32",
    ),
    "5 dimensions": (with_shape(1, 1, 1, 1, 8), r"5 dimensions \(at byte 33\), more than 4"),
    "2^32-1 dimensions": (
        with_tensors([*text(b"a"), (4, 2**32 - 1), (8, 8), (4, 0), (8, 0)]),
        "4294967295 dimensions",
    ),
    "product wraps to 0": (with_shape(2**32, 2**32), "too large to exist"),
    "product wraps to 4": (with_shape(4194305, 4194305, 211106198978564), "too large to exist"),
    "negative extent": (with_shape(2**64 - 8), "too large to exist"),
    "huge and empty": (with_shape(2**62, 4, 0), "too large to exist"),
    "bytes of blocks wrap": (with_shape(2**61, kind=8), "too large to exist"),
    "bytes of floats wrap": (with_shape(2**62), "too large to exist"),
    "row of 33 in q8_0": (with_shape(33, kind=8), "are no whole q8_0 blocks of 32"),
    "scalar in q8_0": (with_shape(kind=8), "are no whole q8_0 blocks of 32"),
    "row of 128 in q4_k": (with_shape(128, 2, kind=12), "are no whole q4_k blocks of 256"),
    "offset not aligned": (with_tensors(tensor(b"a", offset=8)), "its data is at 8, "),
    "offset after a hole": (with_tensors(tensor(b"a", offset=32)), "at 32, .* end at 0"),
    "overlap": (with_tensors(tensor(b"a"), tensor(b"b")), "'b': its data is at 0, .* end at 32"),
    "offset beyond the end": (with_tensors(tensor(b"a", offset=2**40)), "at 1099511627776"),
    "other order": (
        with_tensors(tensor(b"a", offset=32), tensor(b"b", offset=0)),
        "'a': its data is at 32",
    ),
    "one byte short": (with_tensors(tensor(b"a"), data=bytes(31)), "1 bytes are missing"),
    "no data": (with_tensors(tensor(b"a"), data=b""), "32 bytes are missing at the end"),
    "no padding at the end": (
        with_tensors(tensor(b"a", (9,)), data=bytes(36)),
        "28 bytes are missing at the end",
    ),
    "appended zip": (with_tensors(tensor(b"a"), data=bytes(32) + b"PK\3\4"), "4 unexpected bytes"),
    "data without tensors": (serialise(fields(), bytes(32)), "32 unexpected bytes"),
    "duplicate tensor": (
        with_tensors(tensor(b"a"), tensor(b"a", offset=32)),
        "duplicate tensor 'a'",
    ),
    "name of 64 bytes": (with_tensors(tensor(b"a" * 64)), "has 64 bytes, more than"),
    "empty name": (with_tensors(tensor(b"")), "the name is empty"),
    "name not utf-8": (with_tensors(tensor(b"\xff")), "a tensor's name is not UTF-8"),
    "escape in a name": (with_tensors(tensor(b"a\x1b[2J")), r"'a\\x1b\[2J'.* control characters"),
    "nul in a name": (with_tensors(tensor(b"a\0b")), "control characters"),
}  # fmt: skip


def write(folder: Path, data: bytes) -> Path:
    path = folder / "model.gguf"
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("case", BAD)
def test_a_malformed_file_is_a_format_error_that_says_what(ram_path, case):
    data, said = BAD[case]
    path = write(ram_path, data)
    with pytest.raises(FormatError, match=said) as caught:
        GGUFFile(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert caught.value.hint
    assert message.isprintable()
    assert len(message) < 400


UNSUPPORTED = {
    "big-endian": (b"GGUF" + struct.pack(">IQQ", 3, 0, 0), "big-endian"),
    "big-endian magic": (b"FUGG" + struct.pack(">IQQ", 3, 0, 0), "big-endian"),
    "a removed type": (with_shape(32, kind=4), "tensor type 4"),
    "a type to come": (with_shape(32, kind=99), "tensor type 99"),
    "type -1": (with_shape(32, kind=-1), "tensor type 4294967295"),
}


@pytest.mark.parametrize("case", UNSUPPORTED)
def test_what_is_valid_elsewhere_is_unsupported(ram_path, case):
    data, said = UNSUPPORTED[case]
    with pytest.raises(UnsupportedError, match=said) as caught:
        GGUFFile(write(ram_path, data))
    assert caught.value.hint


def test_truncation_at_every_length_is_a_format_error():
    for length in range(len(SMALL)):
        with pytest.raises(FormatError):
            parse_header(SMALL[:length], Path("small"))


def test_a_byte_after_the_end_is_a_format_error():
    with pytest.raises(FormatError, match="1 unexpected bytes"):
        parse_header(SMALL + b"\0", Path("small"))


def test_the_small_file_is_read_as_it_was_built(ram_path):
    with GGUFFile(write(ram_path, SMALL)) as file:
        found = {
            k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in file.metadata.items()
        }
        assert found == {
            "general.architecture": "llama",
            "n": 7,
            "i": -3,
            "x": 0.5,
            "yes": True,
            "t": ("a", "", "ü", "b c"),
            "s": [1.0, -2.0, 3.0],
            "k": [True, False],
            "e": [],
        }
        assert {name: info.shape for name, info in file.tensors.items()} == {
            "a.weight": (2, 4), "q": (2, 32), "none": (0,),
        }  # fmt: skip
        np.testing.assert_array_equal(
            file.read("a.weight").dequantize(), np.arange(8, dtype=np.float32).reshape(2, 4)
        )
        assert file.read("q").data.tobytes() == SMALL_DATA[32:100]
        assert file.read("none").nbytes == 0


def everything(data: bytes) -> list:
    """All that is read of a file, in a form that can be compared."""
    path = Path("small")
    header = parse_header(data, path)
    metadata = Metadata(header.metadata, data[: header.data_start], path)
    found: list = [header.version, header.alignment, sorted(header.tensors.items())]
    return [*found, [(key, metadata.value(key)) for key in metadata]]


def test_every_byte_set_to_others_is_refused_or_changes_what_is_read():
    """Or it is in the data or in padding: nothing else may be ignored."""
    wanted, header = everything(SMALL), len(serialise(small_fields()))
    accepted = 0
    for place in range(header):
        for value in {0, 1, 0x7F, 0x80, 0xFF} - {SMALL[place]}:
            data = SMALL[:place] + bytes([value]) + SMALL[place + 1 :]
            try:
                found = everything(data)
            except EntrenarError:
                continue
            accepted += 1
            assert found != wanted, f"byte {place} set to {value} is ignored"
    assert accepted > 100


TYPED = with_pairs(
    array(b"scores", I8, 2, b"\1\2"),
    array(b"types", F32, 2, bytes(8)),
    array(b"tokens", TEXT, 2, *text(b"a"), *text(b"b")),
    array(b"broken", TEXT, 2, *text(b"a"), *text(b"\xff")),
    pair(b"n", F32, bytes(4)),
    pair(b"f", U8, (1, 1)),
)

WRONG_TYPES = {
    "scores as i8": (lambda m: m.array("scores", ValueType.F32), "2 elements of i8, not an"),
    "types as f32": (lambda m: m.array("types", ValueType.I32), "of f32, not an array of i32"),
    "tokens as numbers": (lambda m: m.array("tokens", ValueType.F32), "of text, not an array"),
    "scores as text": (lambda m: m.strings("scores"), "of i8, not an array of text"),
    "too few": (lambda m: m.strings("tokens", count=3), "2 elements .* not an array of 3"),
    "too many": (lambda m: m.array("scores", ValueType.I8, count=1), "not an array of 1 elements"),
    "float as integer": (lambda m: m.integer("n"), "'n' is f32, not "),
    "integer as number": (lambda m: m.number("f"), "'f' is u8, not f32 or f64"),
    "integer as flag": (lambda m: m.flag("f"), "'f' is u8, not bool"),
    "array as text": (lambda m: m.text("tokens"), "2 elements of text, not text"),
    "number as array": (lambda m: m.array("n", ValueType.F32), "'n' is f32, not an array of f32"),
    "missing": (lambda m: m.integer("tokns"), "no metadata key 'tokns'"),
    "default of a wrong type": (lambda m: m.integer("n", 3), "'n' is f32"),
    "not utf-8": (lambda m: m.strings("broken"), "text 1 of metadata key 'broken' is not UTF-8"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG_TYPES)
def test_a_value_of_another_type_or_length_is_a_format_error(ram_path, case):
    ask, said = WRONG_TYPES[case]
    path = write(ram_path, TYPED)
    with GGUFFile(path) as file, pytest.raises(FormatError, match=said) as caught:
        ask(file.metadata)
    assert str(caught.value).startswith(f"{path}: ")


def test_text_in_metadata_is_never_interpreted(ram_path):
    template = "{{ cycler.__init__.__globals__.os.popen('id').read() }}\x1b[31m"
    data = with_pairs(pair(b"tokenizer.chat_template", TEXT, *text(template.encode())))
    with GGUFFile(write(ram_path, data)) as file:
        assert file.metadata.text("tokenizer.chat_template") == template


@pytest.mark.parametrize(
    "data",
    [
        serialise(fields()),
        serialise(fields(), b""),
        serialise(fields(version=2)),
        with_shape(kind=0),
        with_tensors(tensor(b"a", (0, 2**40)), data=b""),
        with_tensors(tensor(b"a", (32, 0), 8), tensor(b"b" * 63), data=bytes(32)),
        serialise(
            fields([pair(b"general.alignment", U32, (4, 8))], [tensor(b"a", (2,))]), bytes(8), 8
        ),
        with_key("ü 漢".encode()),
        with_pairs(pair(b"k", TEXT, *text(b"")), array(b"e", TEXT, 0), array(b"b", BOOL, 0)),
    ],
)
def test_what_is_odd_but_legal_is_accepted(ram_path, data):
    with GGUFFile(write(ram_path, data)) as file:
        for name in file.names():
            file.read(name)


@pytest.mark.tier2
def test_tensors_are_looked_through_in_linear_time():
    """Ten times as many take about ten times as long, not a hundred times."""
    seconds = []
    for count in (2_000, 20_000):
        tensors = [tensor(b"%06d" % number, (0,)) for number in range(count)]
        data = with_tensors(*tensors, data=b"")
        begun = time.process_time()
        assert len(parse_header(data, Path("many")).tensors) == count
        seconds.append(time.process_time() - begun)
    assert seconds[1] < 30 * seconds[0]


@pytest.mark.tier2
def test_a_bad_file_costs_no_memory_and_no_time(ram_path):
    """All bad files, in a process that may not take more than 64 MB more."""
    for number, (data, _) in enumerate(BAD.values()):
        (ram_path / f"{number}.gguf").write_bytes(data)
    script = (
        "import resource, sys; from pathlib import Path\n"
        "from entrenar_common.errors import FormatError\n"
        "from entrenar_core.io.gguf import GGUFFile\n"
        "used = int(Path('/proc/self/statm').read_text().split()[0]) * resource.getpagesize()\n"
        "resource.setrlimit(resource.RLIMIT_AS, (used + 64 * 10**6,) * 2)\n"
        "resource.setrlimit(resource.RLIMIT_CPU, (5, 5))\n"
        "for path in Path(sys.argv[1]).iterdir():\n"
        "    try: GGUFFile(path)\n"
        "    except FormatError: continue\n"
        "    sys.exit(f'{path} was accepted')\n"
    )
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
    subprocess.run([sys.executable, "-c", script, ram_path], check=True, env=environment)


def test_what_is_not_a_file_is_not_found(ram_path):
    os.mkfifo(ram_path / "pipe")
    for path in (ram_path / "none", ram_path, ram_path / "pipe", Path("/dev/null")):
        with pytest.raises(NotFoundError, match=path.name):
            GGUFFile(path)


def test_leaks_no_descriptor(ram_path):
    path = write(ram_path, SMALL[:-1])
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(FormatError):
        GGUFFile(path)
    with GGUFFile(write(ram_path, SMALL)) as file:
        file.read("q")
    del file
    assert len(os.listdir("/proc/self/fd")) == before
