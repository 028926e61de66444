"""Writing GGUF files: streamed, one tensor being made while the one before it is written."""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from math import prod
from typing import NamedTuple, NoReturn

import numpy as np

from entrenar_common.errors import ConfigError, ShapeError
from entrenar_common.text import escape_controls
from entrenar_core.io import files
from entrenar_core.io.files import Written
from entrenar_core.io.gguf_header import (
    ALIGNMENT_KEY,
    DEFAULT_ALIGNMENT,
    MAGIC,
    MAX_RANK,
    MAX_TENSOR_BYTES,
    MAX_TENSORS,
    check_alignment,
    check_name,
    padded,
)
from entrenar_core.io.gguf_pairs import MAX_KEYS, MAX_METADATA_BYTES, MAX_STRINGS
from entrenar_core.io.gguf_values import Value, check_key, encode, encode_text
from entrenar_core.io.streamed import written_behind
from entrenar_core.quant import BlockArray, BlockFormat

VERSION = 3


class Planned(NamedTuple):
    """A tensor that is to be written: `shape` as numpy's, its last axis in blocks of `form`."""

    name: str
    form: BlockFormat
    shape: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        """The bytes of its data, without padding; ShapeError for rows of no whole blocks."""
        rows = prod(self.shape[:-1])
        return rows * self.form.row_bytes(self.shape[-1] if self.shape else 1)


def write_gguf(
    path: str | os.PathLike[str],
    metadata: Mapping[str, Value],
    tensors: Sequence[Planned],
    read: Callable[[str], BlockArray],
) -> Written:
    """Writes a GGUF file, version 3, whole or not at all, and returns its size and hash.

    Names, types and shapes are told first, since they are at the file's beginning; then `read` is
    asked for each tensor once, in order, in this thread, while another one hashes and writes what
    came before. So two large tensors are in memory at most, or some small ones and one (see
    `io.streamed`), besides what `read` needs, and an array that lies in memory as the file is to
    have it is not copied.
    `general.alignment` is obeyed where the metadata has it, else tensors are aligned to 32 bytes.

    Raises ConfigError and ShapeError for what no reader would accept, StorageError.
    """
    alignment = _alignment(metadata)
    _check_tensors(tensors)
    head = [_counts(tensors, metadata), *_pairs(metadata), *_infos(tensors, alignment)]
    if tensors:
        head.append(_padding(sum(map(len, head)), alignment))
    with files.open_atomic(path) as file, written_behind(file) as write:
        write(b"".join(head))
        padding = b""
        for tensor in tensors:
            memory = _memory(read(tensor.name), tensor)
            # not before the tensor is read, since it waits for the large one that it belongs to
            write(padding)
            write(memory)
            padding = _padding(memory.nbytes, alignment)
            del memory  # the other thread's alone
        write(padding)
    return Written(file.size, file.sha256)


def file_size(metadata: Mapping[str, Value], tensors: Sequence[Planned]) -> int:
    """The bytes of the file that `write_gguf` makes of these, padding included."""
    alignment = _alignment(metadata)
    head = sum(
        map(len, [_counts(tensors, metadata), *_pairs(metadata), *_infos(tensors, alignment)])
    )
    if not tensors:
        return head
    return padded(head, alignment) + sum(padded(t.nbytes, alignment) for t in tensors)


def _padding(size: int, alignment: int) -> bytes:
    return bytes(padded(size, alignment) - size)


def _refuse(what: str, hint: str) -> NoReturn:
    raise ConfigError(what, hint=hint)


def _alignment(metadata: Mapping[str, Value]) -> int:
    value = metadata.get(ALIGNMENT_KEY)
    if value is None:
        return DEFAULT_ALIGNMENT
    if problem := check_alignment(value):
        _refuse(f"{ALIGNMENT_KEY} {problem}", "leave the key out: 32 is what everyone uses")
    assert isinstance(value.content, int)
    return value.content


def _check_tensors(tensors: Sequence[Planned]) -> None:
    if len(tensors) > MAX_TENSORS:
        _refuse(f"{len(tensors)} tensors, more than {MAX_TENSORS}", "write several files")
    seen: set[str] = set()
    for tensor in tensors:
        label = f"tensor '{escape_controls(tensor.name[:80])}'"
        if problem := check_name(tensor.name):
            _refuse(f"{label}: the name {problem}", "rename the tensor")
        if tensor.name in seen:
            _refuse(f"{label} is there twice", "rename one of them")
        seen.add(tensor.name)
        _check_shape(tensor, label)


def _check_shape(tensor: Planned, label: str) -> None:
    shape = list(tensor.shape)
    if len(shape) > MAX_RANK or min(shape, default=0) < 0:
        raise ShapeError(
            f"{label}: shape {shape}, and GGUF has at most {MAX_RANK} dimensions",
            hint="merge dimensions; the reader has to know",
        )
    try:
        tensor.form.row_bytes(shape[-1] if shape else 1)
    except ShapeError as error:
        raise ShapeError(f"{label}: {error}", hint=error.hint) from None
    if prod(n for n in shape if n) * tensor.form.block_bytes > MAX_TENSOR_BYTES:
        raise ShapeError(f"{label}: shape {shape} is too large to exist", hint="check the shape")


def _counts(tensors: Sequence[Planned], metadata: Mapping[str, Value]) -> bytes:
    counts = len(tensors).to_bytes(8, "little") + len(metadata).to_bytes(8, "little")
    return MAGIC + VERSION.to_bytes(4, "little") + counts


def _pairs(metadata: Mapping[str, Value]) -> list[bytes]:
    if len(metadata) > MAX_KEYS:
        _refuse(f"{len(metadata)} metadata keys, more than {MAX_KEYS}", "use arrays")
    found, strings = [], 0
    for key, value in metadata.items():
        label = f"metadata key '{escape_controls(key[:80])}'"
        if problem := check_key(key):
            _refuse(f"{label} {problem}", "choose another key")
        strings += len(value.content) if isinstance(value.content, tuple) else 0
        found += [encode_text(key), *encode(value)]
    size = sum(map(len, found))
    if size > MAX_METADATA_BYTES or strings > MAX_STRINGS:
        _refuse(
            f"metadata of {size} bytes with {strings} texts in arrays exceeds what readers accept, "
            f"{MAX_METADATA_BYTES} bytes and {MAX_STRINGS} texts",
            "write less metadata",
        )
    return found


def _infos(tensors: Iterable[Planned], alignment: int) -> list[bytes]:
    found, offset = [], 0
    for tensor in tensors:
        extents = [n.to_bytes(8, "little") for n in reversed(tensor.shape)]
        found += [
            encode_text(tensor.name),
            len(extents).to_bytes(4, "little"),
            *extents,
            tensor.form.number.to_bytes(4, "little"),
            offset.to_bytes(8, "little"),
        ]
        offset += padded(tensor.nbytes, alignment)
    return found


def _memory(array: BlockArray, planned: Planned) -> memoryview:
    if (array.form.number, array.shape) != (planned.form.number, planned.shape) or (
        array.nbytes != planned.nbytes
    ):
        raise ShapeError(
            f"tensor '{escape_controls(planned.name)}' is {array.form.name}{list(array.shape)} of "
            f"{array.nbytes} bytes, and was to be {planned.form.name}{list(planned.shape)} of "
            f"{planned.nbytes}",
            hint="give the tensor that was announced",
        )
    return np.ascontiguousarray(array.data).reshape(-1).view(np.uint8).data
