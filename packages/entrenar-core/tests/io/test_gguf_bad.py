"""Malformed GGUF files, built from bytes: each ends in one typed error that says what."""

import os
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from entrenar_common.errors import EntrenarError, FormatError, NotFoundError, UnsupportedError
from entrenar_core.io.gguf import GGUFFile, Metadata, ValueType
from entrenar_core.io.gguf_header import parse_header
from gguf_bad_cases import BAD, with_key, with_pairs, with_shape, with_tensors
from gguf_bytes import (
    BOOL,
    F32,
    I8,
    SMALL,
    SMALL_DATA,
    TEXT,
    U8,
    U32,
    array,
    fields,
    pair,
    serialise,
    small_fields,
    tensor,
    text,
)


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


def test_tensors_are_looked_through_in_linear_time():
    """Ten times as many run ten times as many lines, not a hundred times."""

    def lines(count: int) -> int:
        data = with_tensors(*(tensor(b"%06d" % i, (0,)) for i in range(count)), data=b"")
        found = 0

        def trace(frame, event, _):
            nonlocal found
            found += event == "line"
            return trace

        before = sys.gettrace()
        sys.settrace(trace)
        try:
            header = parse_header(data, Path("many"))
        finally:
            sys.settrace(before)
        assert len(header.tensors) == count
        return found

    few, many = lines(100), lines(1000)
    assert 900 < many < 11 * few


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
