"""Safetensors files with a few fields wrong: refused, or read as the library reads them."""

import json
import random
import struct
from pathlib import Path

import pytest
from hypothesis import given
from safetensors import deserialize

from entrenar_common.errors import FormatError, UnsupportedError
from entrenar_core.io.dtypes import DTYPES
from entrenar_core.io.safetensors import SafetensorsFile
from reader_fuzz import batches, cut, how_many, other_bytes, other_number, rearrange, run, seeds

SIZED = [dtype for dtype in DTYPES if dtype.numpy is not None]

Field = bytes | int
"""A piece of the header as it is written, or a number in it."""


def header(rng: random.Random) -> tuple[list[Field], int]:
    """The pieces of a header, and the bytes of data that it asks for."""
    entries, offset = [], 0
    for number in range(rng.randrange(4)):
        dtype = rng.choice(SIZED)
        shape = [rng.choice([0, 1, 2, 3]) for _ in range(rng.randrange(4))]
        size = dtype.bits // 8
        for n in shape:
            size *= n
        name = json.dumps(rng.choice(["w%d", "layer.%d.weight", "ü%d"]) % number).encode()
        entries.append(
            [name, b":{", b'"dtype":', b'"%s"' % dtype.name.encode(), b",", b'"shape":[',
             *commas(shape), b"],", b'"data_offsets":[', offset, b",", offset + size, b"]}"]
        )  # fmt: skip
        offset += size
    if rng.random() < 0.3:
        text = json.dumps({"format": "pt", "k": rng.choice(["", "é", "{"])}).encode()
        entries.append([b'"__metadata__":', text])
    rng.shuffle(entries)
    fields: list[Field] = [b"{"]
    for number, entry in enumerate(entries):
        fields += [b","] * (number > 0) + entry
    return [*fields, b"}"], offset


def commas(numbers: list[int]) -> list[Field]:
    found: list[Field] = []
    for place, number in enumerate(numbers):
        found += [b","] * (place > 0) + [number]
    return found


def build(rng: random.Random) -> bytes:
    fields, size = header(rng)
    data_size, extra = size, 0
    for _ in range(how_many(rng)):
        what, place = rng.random(), rng.randrange(len(fields))
        found = fields[place]
        if what < 0.1:
            rearrange(rng, fields)
        elif what < 0.15:
            data_size = max(0, data_size + rng.choice([-1, 1, 8]))
        elif what < 0.2:
            extra = rng.choice([-1, 1, -(2**40), 2**62])
        elif isinstance(found, int):
            fields[place] = other_number(rng, found)
        elif found.startswith(b'"') and found.endswith(b'"') and rng.random() < 0.5:
            fields[place] = b'"%s"' % rng.choice(DTYPES).name.encode()
        else:
            fields[place] = other_bytes(rng, found)
        fields = fields or [b""]
    raw = b"".join(f if isinstance(f, bytes) else str(f).encode() for f in fields)
    raw += b" " * rng.choice([0, 0, -len(raw) % 8])
    length = (len(raw) + extra) % 2**64
    return cut(rng, struct.pack("<Q", length) + raw + rng.randbytes(data_size))


@pytest.fixture(scope="module")
def path(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("fuzz") / "model.safetensors"


@pytest.mark.tier2
@batches
@given(seed=seeds)
def test_files_are_refused_or_read_as_the_library_reads_them(path, seed):
    def check(data: bytes) -> bool:
        path.write_bytes(data)
        try:
            with SafetensorsFile(path) as file:
                ours = {
                    name: (info.dtype.name, info.shape, file.read(name).tobytes())
                    for name, info in file.tensors.items()
                }
        except (FormatError, UnsupportedError) as error:
            assert error.hint
            assert str(error).isprintable()
            return False
        assert ours == {
            name: (found["dtype"], tuple(found["shape"]), bytes(found["data"]))
            for name, found in deserialize(data)
        }
        return True

    run(seed, build, check)
