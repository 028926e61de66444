"""Files of torch.save with a few fields wrong: refused, or read as PyTorch reads them.

The pickle, the archive around it and the stacked pickles are changed; checksums are made right
again, since they would hide everything else.
"""

import random
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given

from entrenar_common.errors import (
    FormatError,
    IntegrityError,
    RefusedError,
    UnsupportedError,
)
from entrenar_core.io.dtypes import DTYPES
from entrenar_core.io.torch_file import TorchFile
from entrenar_core.io.torch_records import STORAGES
from reader_fuzz import batches, cut, how_many, other_bytes, other_number, rearrange, run, seeds
from torch_bytes import MAGIC, VERSION, name, pickled, text, value

ITEM = {dtype.name: dtype.bits // 8 for dtype in DTYPES}
LATE = {d.torch_name: d.bits // 8 for d in DTYPES if d.name in ("U16", "U32", "U64", "F8_E4M3")}
FUNCTIONS = ["_rebuild_tensor", "_rebuild_tensor_v2", "_rebuild_tensor_v3", "_rebuild_parameter"]
OTHERS = [
    "os.system", "builtins.eval", "torch.Tensor", "torch.nn.parameter.Parameter", "torch.device",
    "torch.float32", "torch.uint16", "torch.bool", "torch.Size", "collections.OrderedDict",
    "builtins.set", "builtins.complex", "_codecs.encode", "torch.storage.UntypedStorage",
    "collections.Counter", "torch.serialization._get_layout", "torch.storage.TypedStorage",
    *(f"torch.{storage}" for storage in STORAGES), *(f"torch._utils.{f}" for f in FUNCTIONS),
]  # fmt: skip
OPCODES = [bytes([code]) for code in b"(.)]}NRQabestu0123\x85\x86\x87\x88\x89\x8f\x81\x93\x94"]
VALUES = [value(item) for item in (None, True, 0, 1, -1, 2**40, 1.5, "", "0", "cpu", (), [], {})]
HOOKS = [name("collections.OrderedDict"), b")", b"R"]

Field = bytes | int | str
"""Opcodes as they are, a whole number, or text."""


def written(fields: list[Field]) -> bytes:
    return b"".join(field if isinstance(field, bytes) else value(field) for field in fields)


def tensor(rng: random.Random, key: int, data: dict[str, bytes], *, stacked: bool) -> list[Field]:
    """The opcodes that make a tensor, whose storage goes into `data`."""
    shape = [rng.choice([0, 1, 2, 3]) for _ in range(rng.randrange(4))]
    stride, step = [], 1
    for n in reversed(shape):
        stride.insert(0, step)
        step *= max(n, 1) + rng.choice([0, 0, 0, 1])
    if rng.random() < 0.3:
        order = rng.sample(range(len(shape)), len(shape))
        shape, stride = [shape[i] for i in order], [stride[i] for i in order]
    offset = rng.choice([0, 0, 0, 1])
    numel = offset + step + rng.choice([0, 0, 1])
    late = rng.choice(list(LATE)) if not stacked and rng.random() < 0.2 else None
    storage = rng.choice(list(STORAGES))
    size = numel * (LATE[late] if late else ITEM[STORAGES[storage]])
    kind = "torch.storage.UntypedStorage" if late else f"torch.{storage}"
    bools = kind == "torch.BoolStorage"
    data[str(key)] = bytes(rng.randrange(2) for _ in range(size)) if bools else rng.randbytes(size)
    about: list[Field] = [b"(", "storage", name(kind), str(key), "cpu", size if late else numel]
    about += [b"N"] * stacked + [b"t", b"Q"]
    layout: list[Field] = [offset, b"(", *shape, b"t", b"(", *stride, b"t"]
    function = "_rebuild_tensor_v3" if late else "_rebuild_tensor_v2"
    end: list[Field] = [b"\x89", *HOOKS, *([name(f"torch.{late}")] if late else []), b"t", b"R"]
    made = [name(f"torch._utils.{function}"), b"(", *about, *layout, *end]
    if rng.random() < 0.2:
        made = [name("torch._utils._rebuild_parameter"), b"(", *made, b"\x89", *HOOKS, b"t", b"R"]
    return made


def state(rng: random.Random, *, stacked: bool) -> tuple[list[Field], dict[str, bytes]]:
    """The opcodes of a state dict, and the bytes of its storages."""
    data: dict[str, bytes] = {}
    fields: list[Field] = [*HOOKS, b"("]
    for key in range(rng.randrange(4)):
        fields += [f"w{key}", *tensor(rng, key, data, stacked=stacked)]
        if rng.random() < 0.2:  # the same tensor under a second name
            fields += [b"q" + bytes([key]), f"tied{key}", b"h" + bytes([key])]
    fields.append(b"u")
    if rng.random() < 0.2:
        fields += [b"}", "_metadata", b"}", b"s", b"b"]
    if rng.random() < 0.2:
        fields = [b"}", b"(", "epoch", 3, "state_dict", *fields, b"u"]
    return fields, data


def mutate(rng: random.Random, fields: list[Field]) -> None:
    place, what = rng.randrange(len(fields)), rng.random()
    found = fields[place]
    if what < 0.12:
        rearrange(rng, fields)
    elif what < 0.2:
        fields.insert(place, rng.choice(OPCODES + VALUES))
    elif what < 0.3:
        fields[place] = rng.choice(OPCODES + VALUES)
    elif isinstance(found, int):
        number = other_number(rng, found, rng.choice([3, 31, 62]))
        fields[place] = rng.choice([number, number, -number, value(float(number))])
    elif isinstance(found, str):
        new = rng.choice([f.encode() for f in fields if isinstance(f, str)])
        fields[place] = text(rng.choice([new, other_bytes(rng, found.encode())]))
    elif found.startswith(b"c"):
        new = name(rng.choice(OTHERS))
        fields[place] = rng.choice([new, new, new, other_bytes(rng, found)])
    else:
        fields[place] = rng.choice([*OPCODES, other_bytes(rng, found)])
    if not fields:
        fields.append(b"N")


def zipped(rng: random.Random, records: list[tuple[bytes, bytes]], changes: int) -> bytes:
    """An archive of the records, some numbers or names of which are changed."""
    fields: list[tuple[str, int] | bytes] = []
    central: list[tuple[str, int] | bytes] = []
    at = 0
    for key, data in records:
        described = rng.random() < 0.5 and len(data) > 0
        flags, crc, size = 2048 + 8 * described, zlib.crc32(data), len(data)
        inside = (0, 0, 0) if described else (crc, size, size)
        extra = b"FB" + struct.pack("<H", 3) + b"ZZZ" if rng.random() < 0.5 else b""
        lengths = [("H", len(key)), ("H", len(extra))]
        numbers = [("H", 0), ("H", flags), ("H", 0), ("H", 0), ("H", 0)]
        local = [b"PK\x03\x04", *numbers, *(("I", n) for n in inside), *lengths, key, extra, data]
        if described:
            local += [b"PK\x07\x08", ("I", crc), ("I", size), ("I", size)]
        central += [b"PK\x01\x02", ("H", 0), *numbers, ("I", crc), ("I", size), ("I", size)]
        central += [("H", len(key)), ("H", 0), ("H", 0), ("H", 0), ("H", 0), ("I", 0), ("I", at)]
        central.append(key)
        fields += local
        at += len(packed(local))
    size, count = len(packed(central)), len(records)
    end: list[tuple[str, int] | bytes] = []
    if rng.random() < 0.5:
        end += [b"PK\x06\x06", ("Q", 44), ("H", 45), ("H", 45), ("I", 0), ("I", 0), ("Q", count)]
        end += [("Q", count), ("Q", size), ("Q", at)]
        end += [b"PK\x06\x07", ("I", 0), ("Q", at + size), ("I", 1)]
    end += [b"PK\x05\x06", ("H", 0), ("H", 0), ("H", count), ("H", count), ("I", size), ("I", at)]
    whole = [*fields, *central, *end, ("H", 0)]
    for _ in range(changes):
        place = rng.randrange(len(whole))
        found = whole[place]
        if rng.random() < 0.1:
            rearrange(rng, whole)
        elif isinstance(found, bytes):
            whole[place] = other_bytes(rng, found)
        else:
            bits = 8 * struct.calcsize("<" + found[0])
            whole[place] = found[0], other_number(rng, found[1], bits)
    return packed(whole)


def packed(fields: list) -> bytes:
    return b"".join(f if isinstance(f, bytes) else struct.pack("<" + f[0], f[1]) for f in fields)


def archive(rng: random.Random) -> bytes:
    fields, data = state(rng, stacked=False)
    outside = rng.random() < 0.4
    changes = how_many(rng)
    for _ in range(0 if outside else changes):
        mutate(rng, fields)
    records = [(b"a/data.pkl", pickled(written(fields))), (b"a/byteorder", b"little")]
    records += [(b"a/data/" + key.encode(), raw) for key, raw in data.items()]
    records.append((b"a/version", b"3\n"))
    if outside and rng.random() < 0.4 and changes:
        place = rng.randrange(len(records))
        key, raw = records[place]
        kept = rng.choice([(other_bytes(rng, key), raw), (key, other_bytes(rng, raw)), (key, b"")])
        records[place] = kept
        changes -= 1
    return zipped(rng, records, changes if outside else 0)


def stack(rng: random.Random) -> bytes:
    fields, data = state(rng, stacked=True)
    keys = list(data)
    machine: list[Field] = [b"}", b"(", "little_endian", b"\x88", "protocol_version", 1001, b"u"]
    listed: list[Field] = [b"]", b"(", *keys, b"e"]
    kinds = {key: _numel(fields, key) for key in keys}
    lengths = [struct.pack("<q", kinds[key]) + data[key] for key in keys]
    for _ in range(how_many(rng)):
        what = rng.random()
        if what < 0.1:
            mutate(rng, machine)
        elif what < 0.25:
            mutate(rng, listed)
        elif what < 0.35 and lengths:
            place = rng.randrange(len(lengths))
            lengths[place] = other_bytes(rng, lengths[place])
        else:
            mutate(rng, fields)
    body = pickled(written(machine)) + pickled(written(fields)) + pickled(written(listed))
    return MAGIC + VERSION + body + b"".join(lengths)


def _numel(fields: list[Field], key: str) -> int:
    place = next(i for i, f in enumerate(fields) if f == key and fields[i + 1] == "cpu")
    found = fields[place + 2]
    assert isinstance(found, int)
    return found


def build(rng: random.Random) -> bytes:
    return cut(rng, (stack if rng.random() < 0.3 else archive)(rng))


def we_read(path: Path) -> dict[str, np.ndarray] | None:
    """The arrays of a file that is accepted; None for one that is refused."""
    try:
        with TorchFile(path) as file:
            return {key: file.read(key) for key in file.names()}
    except (FormatError, RefusedError, UnsupportedError, IntegrityError) as error:
        assert error.hint
        assert str(error).isprintable()
        return None


@pytest.fixture(scope="module")
def path(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("fuzz") / "pytorch_model.bin"


@pytest.mark.tier2
@batches
@given(seed=seeds)
def test_files_are_refused_or_hold_no_more_than_their_bytes(path, seed):
    def check(data: bytes) -> bool:
        path.write_bytes(data)
        found = we_read(path)
        if found is None:
            return False
        assert all(array.nbytes <= len(data) for array in found.values())
        return True

    run(seed, build, check)


@pytest.mark.parity
@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@batches
@given(seed=seeds)
def test_files_that_are_read_are_read_by_pytorch_with_equal_values(path, seed):
    torch = pytest.importorskip("torch")

    def check(data: bytes) -> bool:
        path.write_bytes(data)
        found = we_read(path)
        if found is None:
            return False
        theirs = torch.load(path, map_location="cpu", weights_only=True)
        if found and not any(torch.is_tensor(item) for item in theirs.values()):
            (theirs,) = (
                item
                for item in theirs.values()
                if isinstance(item, dict) and any(map(torch.is_tensor, item.values()))
            )
        tensors = {key: item for key, item in theirs.items() if torch.is_tensor(item)}
        assert found.keys() == tensors.keys()
        for key, array in found.items():
            found_there = tensors[key].detach()
            assert array.shape == tuple(found_there.shape)
            if found_there.dtype is torch.bool:  # copying would make every byte 0 or 1
                found_there = found_there.view(torch.uint8)
            wanted = torch.empty(found_there.numel(), dtype=found_there.dtype)
            wanted.copy_(found_there.reshape(-1))  # one element may have any stride
            raw = wanted.view(torch.uint8).numpy().tobytes() if wanted.numel() else b""
            assert array.tobytes() == raw, key
        return True

    run(seed, build, check)
