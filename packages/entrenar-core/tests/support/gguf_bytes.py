"""GGUF files from bytes, field by field, so that tests can make any one of them wrong."""

import struct
from collections.abc import Iterable, Sequence

Field = tuple[int, int] | bytes
"""(bytes, unsigned number), or bytes as they are."""

U8, I8, U16, I16, U32, I32, F32, BOOL, TEXT, ARRAY, U64, I64, F64 = range(13)


def text(raw: bytes) -> list[Field]:
    return [(8, len(raw)), raw]


def pair(key: bytes, kind: int, *value: Field) -> list[Field]:
    return [*text(key), (4, kind), *value]


def array(key: bytes, kind: int, count: int, *values: Field) -> list[Field]:
    return pair(key, ARRAY, (4, kind), (8, count), *values)


def tensor(name: bytes, extents: Sequence[int] = (8,), kind: int = 0, offset: int = 0):
    """`extents` as in the file: the innermost first. Type 0 is float32."""
    shape: list[Field] = [(8, extent) for extent in extents]
    return [*text(name), (4, len(extents)), *shape, (4, kind), (8, offset)]


def fields(
    pairs: Sequence[list[Field]] = (),
    tensors: Sequence[list[Field]] = (),
    *,
    version: int = 3,
    magic: bytes = b"GGUF",
) -> list[Field]:
    head: list[Field] = [magic, (4, version), (8, len(tensors)), (8, len(pairs))]
    return [*head, *(f for p in pairs for f in p), *(f for t in tensors for f in t)]


def serialise(found: Iterable[Field], data: bytes | None = None, alignment: int = 32) -> bytes:
    """The fields, and where there is `data` the padding and it."""
    head = b"".join(
        f if isinstance(f, bytes) else (f[1] % 256 ** f[0]).to_bytes(f[0], "little") for f in found
    )
    return head if data is None else head + bytes(-len(head) % alignment) + data


def small_fields() -> list[Field]:
    """A file with a value of every kind, and three tensors: 8 floats, 2 × 32 of q8_0, none."""
    return fields(
        [
            pair(b"general.architecture", TEXT, *text(b"llama")),
            pair(b"n", U32, (4, 7)),
            pair(b"i", I64, (8, 2**64 - 3)),
            pair(b"x", F32, struct.pack("<f", 0.5)),
            pair(b"yes", BOOL, (1, 1)),
            array(b"t", TEXT, 4, *text(b"a"), *text(b""), *text("ü".encode()), *text(b"b c")),
            array(b"s", F32, 3, struct.pack("<3f", 1, -2, 3)),
            array(b"k", BOOL, 2, b"\1\0"),
            array(b"e", I32, 0),
        ],
        [
            tensor(b"a.weight", (4, 2), 0, 0),
            tensor(b"q", (32, 2), 8, 32),
            tensor(b"none", (0,), 0, 128),
        ],
    )


SMALL_DATA = struct.pack("<8f", *range(8)) + (b"\x00\x3c" + bytes(range(32))) * 2 + bytes(28)
SMALL = serialise(small_fields(), SMALL_DATA)
