"""Malformed GGUF files, built from bytes, with what the error says of each."""

import struct

from gguf_bytes import (
    ARRAY,
    BOOL,
    F32,
    I32,
    TEXT,
    U8,
    U32,
    Field,
    array,
    fields,
    pair,
    serialise,
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
    "strides that overflow": (with_shape(1, 0, 2**62 + 1), "too large to exist"),
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
