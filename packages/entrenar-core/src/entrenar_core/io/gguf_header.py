"""The header of a GGUF file, checked in full before anything is built from it.

Layout: magic, version, the numbers of tensors and of metadata pairs; the pairs; the tensors' names,
shapes, types and offsets; padding; tensor data to the end of the file. Every count and offset is
compared with the file's size as a Python integer before there is a loop or an allocation.
What is accepted here, llama.cpp's reader accepts too; the reverse does not hold.
Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md; how strict the reference is:
https://github.com/ggml-org/llama.cpp, `ggml/src/gguf.cpp`.
"""

import mmap
import struct
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import NamedTuple, NoReturn

from entrenar_common.errors import UnsupportedError
from entrenar_common.text import escape_controls
from entrenar_core.io.gguf_cursor import Cursor
from entrenar_core.io.gguf_pairs import MAX_KEYS, MAX_METADATA_BYTES, StoredArray, parse_pairs
from entrenar_core.io.gguf_values import CONTROLS, Value, ValueType
from entrenar_core.io.kinds import GGUF_MAGIC
from entrenar_core.io.other_kinds import refuse_as_something_else
from entrenar_core.quant import BY_NUMBER, BlockFormat

MAGIC = GGUF_MAGIC
HEAD_BYTES = 24
ALIGNMENT_KEY = "general.alignment"
DEFAULT_ALIGNMENT = 32
LEAST_ALIGNMENT, MOST_ALIGNMENT = 8, 2**16
MAX_TENSORS = 1_000_000
MAX_NAME_BYTES = 63
MAX_RANK = 4
MAX_TENSOR_BYTES = 2**62 - 1
"""Of the extent without zeros; beyond it llama.cpp's arithmetic may fail an assertion."""

MAX_HEADER_BYTES = MAX_METADATA_BYTES + MAX_TENSORS * (8 + MAX_NAME_BYTES + 4 + MAX_RANK * 8 + 12)
"""No header is longer: the metadata, and for each tensor name, shape, type and offset."""

_SHOWN_BYTES = 64  # enough to recognise what a file is instead
_SHAPE_TYPE_OFFSET = [struct.Struct(f"<{rank}QIQ") for rank in range(MAX_RANK + 1)]
_LEAST_PAIR_BYTES = 8 + 1 + 4 + 1
_LEAST_TENSOR_BYTES = 8 + 1 + 4 + 4 + 8


class GGUFTensor(NamedTuple):
    """Where one tensor is: bytes `begin` to `end` of the data, in `form`; `shape` as numpy's.

    ggml counts dimensions from the innermost on: its `ne` is `shape` reversed.
    """

    name: str
    form: BlockFormat
    shape: tuple[int, ...]
    begin: int
    end: int

    @property
    def size(self) -> int:
        """The number of elements."""
        return prod(self.shape)


@dataclass(frozen=True)
class Header:
    """What a GGUF file says about itself; `data_start` counts from the file's first byte."""

    version: int
    alignment: int
    metadata: dict[str, Value | StoredArray]
    tensors: dict[str, GGUFTensor]
    data_start: int


def parse_header(data: bytes | mmap.mmap, path: Path, *, size: int | None = None) -> Header:
    """The header from a whole file's bytes; any inconsistency is a FormatError.

    With `size`, `data` are the first bytes of a file of that size, and MoreNeeded says how many it
    takes at least where they end within the header. Raises UnsupportedError for big-endian files
    and for tensor types that are not in `BY_NUMBER`.
    """
    cursor = Cursor(data, path, size=size)
    _check_magic(cursor)
    version = cursor.u32("the version")
    _check_version(version, cursor)
    tensor_count, pair_count = cursor.u64("the tensor count"), cursor.u64("the metadata count")
    _check_counts(tensor_count, pair_count, cursor)
    metadata = parse_pairs(cursor, pair_count)
    alignment = _alignment(metadata, cursor)
    tensors = _tensors(cursor, tensor_count, alignment)
    data_start = _check_coverage(tensors, alignment, cursor)
    return Header(version, alignment, metadata, tensors, data_start)


def _check_magic(cursor: Cursor) -> None:
    if not cursor.end:
        cursor.fail("empty file")
    cursor.need(min(cursor.end, _SHOWN_BYTES))
    head = bytes(cursor.data[:_SHOWN_BYTES])
    if head.startswith(MAGIC[::-1]):
        _refuse_big_endian(cursor.path)
    if not head.startswith(MAGIC):
        refuse_as_something_else(head, cursor.path, "GGUF")
        cursor.fail(f"does not start with 'GGUF' but with '{escape_controls(str(head[:4])[2:-1])}'")
    if cursor.end < HEAD_BYTES:
        cursor.fail(
            f"{cursor.end} bytes, shorter than the {HEAD_BYTES} that a GGUF file starts with"
        )


def _check_version(version: int, cursor: Cursor) -> None:
    if version & 0xFFFF == 0 and version:
        _refuse_big_endian(cursor.path)
    if version not in (2, 3):
        cursor.fail(f"GGUF version {version}: only 2 and 3 can be read")


def _refuse_big_endian(path: Path) -> NoReturn:
    raise UnsupportedError(
        f"{path}: this GGUF file is big-endian, which is not supported",
        hint="convert it with llama.cpp's gguf_convert_endian.py, or fetch the usual little-endian "
        "file",
    )


def _check_counts(tensors: int, pairs: int, cursor: Cursor) -> None:
    for what, count, most in (
        ("tensors", tensors, MAX_TENSORS),
        ("metadata keys", pairs, MAX_KEYS),
    ):
        if count > most:
            cursor.fail(f"{count} {what}, more than the limit of {most}")
    least = tensors * _LEAST_TENSOR_BYTES + pairs * _LEAST_PAIR_BYTES
    if least > cursor.end - cursor.place:
        cursor.fail(
            f"{tensors} tensors and {pairs} metadata keys take at least {least} bytes, and "
            f"{cursor.end - cursor.place} are left in the file"
        )


def check_alignment(value: Value | StoredArray) -> str | None:
    """What is wrong with a value of `general.alignment`, or None."""
    if not isinstance(value, Value) or value.type is not ValueType.U32:
        return "is not a number of type u32"
    assert isinstance(value.content, int)
    if not LEAST_ALIGNMENT <= value.content <= MOST_ALIGNMENT or value.content.bit_count() != 1:
        return f"is {value.content}, no power of two from {LEAST_ALIGNMENT} to {MOST_ALIGNMENT}"
    return None


def _alignment(metadata: dict[str, Value | StoredArray], cursor: Cursor) -> int:
    value = metadata.get(ALIGNMENT_KEY)
    if value is None:
        return DEFAULT_ALIGNMENT
    if problem := check_alignment(value):
        cursor.fail(f"{ALIGNMENT_KEY} {problem}")
    assert isinstance(value, Value)
    assert isinstance(value.content, int)
    return value.content


def check_name(name: str) -> str | None:
    """What is wrong with a tensor's name, or None."""
    if not name:
        return "is empty"
    if len(name.encode()) > MAX_NAME_BYTES:
        return f"is longer than {MAX_NAME_BYTES} bytes"
    return "has control characters" if CONTROLS.search(name) else None


def padded(size: int, alignment: int) -> int:
    """The least multiple of `alignment` that is not below `size`."""
    return -(-size // alignment) * alignment


def _tensors(cursor: Cursor, count: int, alignment: int) -> dict[str, GGUFTensor]:
    found: dict[str, GGUFTensor] = {}
    expected = 0
    for _ in range(count):
        begin = cursor.place
        name = cursor.text("a tensor's name", MAX_NAME_BYTES)
        if problem := check_name(name):
            cursor.fail(f"{_label(name)} (at byte {begin}): the name {problem}")
        if name in found:
            cursor.fail(f"duplicate {_label(name)} (at byte {begin})")
        found[name] = tensor = _tensor(cursor, name, expected)
        expected = padded(tensor.end, alignment)
    return found


def _label(name: str) -> str:
    return f"tensor '{escape_controls(name)}'"


def _tensor(cursor: Cursor, name: str, expected: int) -> GGUFTensor:
    rank = cursor.u32("a tensor's number of dimensions")
    if rank > MAX_RANK:
        place = cursor.place - 4
        cursor.fail(f"{_label(name)}: {rank} dimensions (at byte {place}), more than {MAX_RANK}")
    layout = _SHAPE_TYPE_OFFSET[rank]
    place = cursor.take(layout.size, "a tensor's shape, type and offset")
    *extents, number, offset = layout.unpack_from(cursor.data, place)
    form = BY_NUMBER.get(number)
    if form is None:
        raise UnsupportedError(
            f"{cursor.path}: {_label(name)}: unknown or removed tensor type {number}",
            hint="fetch the model in another type, or convert it with llama.cpp of its time",
        )
    shape = tuple(extents[::-1])
    if (extents[0] if extents else 1) % form.block:
        cursor.fail(
            f"{_label(name)}: rows of shape {list(shape)} are no whole {form.name} blocks of "
            f"{form.block}"
        )
    # the extent without zeros, since its strides are computed even where the size is 0
    if prod(filter(None, shape)) * form.block_bytes > MAX_TENSOR_BYTES:
        cursor.fail(f"{_label(name)}: shape {list(shape)} is too large to exist")
    if offset != expected:
        cursor.fail(
            f"{_label(name)}: its data is at {offset}, and the tensors before it end at {expected}"
        )
    size = prod(shape) // form.block * form.block_bytes
    return GGUFTensor(name, form, shape, offset, offset + size)


def _check_coverage(tensors: dict[str, GGUFTensor], alignment: int, cursor: Cursor) -> int:
    """The place of the data, which together with the header is the whole file."""
    begin = padded(cursor.place, alignment)
    if not tensors and cursor.end in (cursor.place, begin):  # some writers leave out the padding
        return cursor.place
    last = next(reversed(tensors.values())).end if tensors else 0
    end = begin + padded(last, alignment)
    if cursor.end < end:
        cursor.fail(f"{end - cursor.end} bytes are missing at the end: the file is truncated")
    if cursor.end > end:
        cursor.fail(f"{cursor.end - end} unexpected bytes after the tensor data")
    return begin
