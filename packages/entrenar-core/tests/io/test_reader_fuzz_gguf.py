"""GGUF files with a few fields wrong: refused with one of our errors, or read rightly, and never
read where llama.cpp refuses them; see `reader_fuzz`."""

import math
import random
import struct

import pytest
from hypothesis import given

import ggml_reader
import gguf_bytes as gg
from entrenar_common.errors import EntrenarError, FormatError, UnsupportedError
from entrenar_core.quant import BY_NUMBER
from ggml_library import installed_library
from reader_fuzz import batches, run, seeds


def gguf_pair(rng: random.Random, number: int) -> list[gg.Field]:
    key = (
        rng.choice([b"a.%d", b"general.name%d", "ü%d".encode(), b"tokenizer.ggml.tokens%d"])
        % number
    )
    kind = rng.randrange(13)
    width = {gg.U8: 1, gg.I8: 1, gg.BOOL: 1, gg.U16: 2, gg.I16: 2}.get(kind, 4)
    width = 8 if kind in (gg.U64, gg.I64, gg.F64) else width
    top = 2 if kind == gg.BOOL else 256**width
    if kind == gg.TEXT:
        return gg.pair(key, kind, *gguf_text(rng))
    if kind != gg.ARRAY:
        return gg.pair(key, kind, (width, rng.randrange(top)))
    count = rng.choice([0, 1, 2, 5, 40])
    element = rng.choice([gg.TEXT, gg.U8, gg.F32, gg.BOOL, gg.I64])
    if element == gg.TEXT:
        texts = [f for _ in range(count) for f in gguf_text(rng)]
        return gg.array(key, element, count, *texts)
    width = {gg.F32: 4, gg.I64: 8}.get(element, 1)
    return gg.array(key, element, count, bytes(rng.randrange(2) for _ in range(count * width)))


def gguf_text(rng: random.Random) -> list[gg.Field]:
    return gg.text(
        rng.choice([b"", b"a", b"token", "漢".encode(), b"\0\0\0\0\0\0\0\0\0", b"x" * 300])
    )


def gguf_file(rng: random.Random) -> tuple[list[gg.Field], int, int]:
    """Fields, the bytes of the tensors' data, the alignment."""
    alignment = rng.choice([32, 32, 8, 64])
    pairs = [gguf_pair(rng, number) for number in range(rng.randrange(5))]
    if alignment != 32:
        pairs.append(gg.pair(b"general.alignment", gg.U32, (4, alignment)))
    tensors, offset = [], 0
    for number in range(rng.randrange(4)):
        form = BY_NUMBER[rng.choice([0, 1, 2, 8, 12, 24, 30])]
        outer = [rng.choice([0, 1, 1, 2, 3]) for _ in range(rng.randrange(4))]
        extents = [form.block * rng.choice([0, 1, 1, 2]), *outer]
        tensors.append(gg.tensor(b"t%d" % number, extents, form.number, offset))
        offset += math.prod(extents) // form.block * form.block_bytes
        offset += -offset % alignment
    return gg.fields(pairs, tensors, version=rng.choice([2, 3, 3])), offset, alignment


def other_number(rng: random.Random, width: int, value: int) -> int:
    top = 256**width
    near = [value + 1, value - 1, value * 2, rng.randrange(64), rng.randrange(top)]
    edges = [0, 1, top - 1, top - 1 - rng.randrange(40), top // 2, top // 4 + 1]
    found = rng.choice([*near, *edges, 2 ** (4 * width), 2 ** rng.randrange(8 * width)])
    return found % top


def other_bytes(rng: random.Random, value: bytes) -> bytes:
    place = rng.randrange(len(value) + 1)
    new = rng.choice([b"\0", b"\xff", b"\x1b", b"\xc3", b"\n", struct.pack("<Q", 3), b"a", b""])
    return value[:place] + new + value[place + rng.randrange(2) :]


def mutate(rng: random.Random, fields: list[gg.Field]) -> None:
    """Changes one field, or leaves one out, repeats it or exchanges two."""
    place = rng.randrange(len(fields))
    found, what = fields[place], rng.random()
    if what < 0.03:
        del fields[place]
    elif what < 0.06:
        fields.insert(place, found)
    elif what < 0.1:
        other = rng.randrange(len(fields))
        fields[place], fields[other] = fields[other], found
    elif isinstance(found, bytes):
        fields[place] = other_bytes(rng, found)
    else:
        fields[place] = found[0], other_number(rng, *found)


def gguf_bytes(rng: random.Random) -> bytes:
    fields, size, alignment = gguf_file(rng)
    for _ in range(rng.choice([0, 1, 1, 1, 2, 2, 3])):
        mutate(rng, fields)
    data = gg.serialise(fields, bytes(size), alignment)
    if rng.random() < 0.05:
        data = data[: rng.randrange(len(data) + 1)] + bytes(rng.choice([0, 0, 1, 32]))
    return data


def gguf_accepts(data: bytes) -> bool:
    try:
        found = ggml_reader.we_read(data)
    except (FormatError, UnsupportedError) as error:
        assert error.hint
        assert str(error).isprintable()
        return False
    start, end = found["data_start"], len(data)
    for _, number, extents, offset, size in found["tensors"]:
        form = BY_NUMBER[number]
        assert size == math.prod(extents) // form.block * form.block_bytes
        assert 0 <= start <= start + offset + size <= end
    return True


@pytest.mark.tier2
@batches
@given(seeds)
def test_gguf_files_are_refused_or_hold_what_they_say(seed):
    run(seed, gguf_bytes, gguf_accepts)


def gguf_agrees(data: bytes) -> bool:
    try:
        found = ggml_reader.we_read(data)
    except EntrenarError:
        return False
    assert found == ggml_reader.llama_cpp_reads(data)
    return True


@pytest.mark.conformance
@batches
@given(seeds)
def test_gguf_files_that_are_read_are_read_by_llama_cpp_with_equal_values(seed):
    installed_library()
    run(seed, gguf_bytes, gguf_agrees)
