"""APR files with a few fields wrong: refused, or read as the standard library reads them."""

import base64
import json
import random
from pathlib import Path

import pytest
from hypothesis import given

from entrenar_common.errors import FormatError, UnsupportedError
from entrenar_core.io.apr import APRFile
from entrenar_core.io.dtypes import DTYPES
from entrenar_core.quant import BY_NUMBER, BlockArray
from reader_fuzz import batches, cut, how_many, other_bytes, other_number, rearrange, run, seeds

SIZED = {dtype.name: dtype for dtype in DTYPES if dtype.numpy is not None}
BLOCKS = {form.name: form for form in BY_NUMBER.values() if form.block > 1}

Field = bytes | int
"""A piece of the document as it is written, or a number in it."""


def tensor(rng: random.Random, number: int) -> list[Field]:
    shape = [rng.choice([0, 1, 1, 2, 3]) for _ in range(rng.randrange(4))]
    if rng.random() < 0.3:
        form = BLOCKS[rng.choice(["q4_0", "q8_0", "q4_k"])]
        shape, name, size = [*shape, form.block], form.name, form.block_bytes
        count = size
    else:
        name = rng.choice(list(SIZED))
        count = SIZED[name].bits // 8
    for n in shape[:-1] if name in BLOCKS else shape:
        count *= n
    text = base64.b64encode(rng.randbytes(count))
    numbers: list[Field] = []
    for place, n in enumerate(shape):
        numbers += [b", "] * (place > 0) + [n]
    pairs: list[list[Field]] = [
        [b'"name": ', json.dumps(rng.choice(["w%d", "ü%d"]) % number).encode()],
        [b'"dtype": ', b'"%s"' % name.encode()],
        [b'"shape": ', b"[", *numbers, b"]"],
        [b'"data": ', b'"', text, b'"'],
    ]
    return joined(rng, pairs, b"{", b"}")


def joined(rng: random.Random, parts: list[list[Field]], start: bytes, end: bytes) -> list[Field]:
    """The parts between brackets with commas, in another order now and then."""
    if rng.random() < 0.2:
        rng.shuffle(parts)
    found: list[Field] = [start]
    for place, part in enumerate(parts):
        found += [rng.choice([b",", b", ", b",\n"])] * (place > 0) + part
    return [*found, end]


def build(rng: random.Random) -> bytes:
    tensors = [tensor(rng, number) for number in range(rng.randrange(4))]
    metadata = {"config": {"a": [1, 2.5, None], "é": '}{"'}, "k": rng.choice([{}, [], ""])}
    written = json.dumps(metadata, ensure_ascii=rng.random() < 0.5).encode()
    fields = joined(
        rng,
        [
            [b'"format": ', b'"apr"'],
            [b'"version": ', 1],
            [b'"metadata": ', written],
            [b'"tensors": ', b"[", *joined(rng, tensors, b"", b""), b"]"],
        ],
        b"{",
        b"}",
    )
    for _ in range(how_many(rng)):
        what, place = rng.random(), rng.randrange(len(fields))
        found = fields[place]
        if what < 0.15:
            rearrange(rng, fields)
        elif isinstance(found, int):
            fields[place] = other_number(rng, found)
        elif found[1:-1].decode("latin1") in {**SIZED, **BLOCKS} and rng.random() < 0.7:
            fields[place] = b'"%s"' % rng.choice([*SIZED, *BLOCKS, "F4", "f32"]).encode()
        else:
            fields[place] = other_bytes(rng, found)
        fields = fields or [b""]
    return cut(rng, b"".join(f if isinstance(f, bytes) else str(f).encode() for f in fields))


@pytest.fixture(scope="module")
def path(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("fuzz") / "model.apr"


def we_read(path: Path) -> dict[str, tuple[str, tuple[int, ...], bytes]]:
    with APRFile(path) as file:
        found = {}
        for name, info in file.tensors.items():
            if info.dtype.name in BLOCKS:
                stored = file.read_blocks(name)
                assert isinstance(stored, BlockArray)
                data = stored.data
            else:
                data = file.read(name)
                assert data.dtype == SIZED[info.dtype.name].numpy
            assert info.nbytes == data.nbytes
            found[name] = info.dtype.name, info.shape, data.tobytes()
        return found


def they_read(data: bytes) -> dict[str, tuple[str, tuple[int, ...], bytes]]:
    return {
        t["name"]: (t["dtype"], tuple(t["shape"]), base64.b64decode(t["data"], validate=True))
        for t in json.loads(data.decode("utf-8"))["tensors"]
    }


@pytest.mark.tier2
@batches
@given(seed=seeds)
def test_files_are_refused_or_read_as_the_standard_library_reads_them(path, seed):
    def check(data: bytes) -> bool:
        path.write_bytes(data)
        try:
            found = we_read(path)
        except (FormatError, UnsupportedError) as error:
            assert error.hint
            assert str(error).isprintable()
            return False
        assert found == they_read(data)
        return True

    run(seed, build, check)
