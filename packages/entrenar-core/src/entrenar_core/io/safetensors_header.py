"""The header of a safetensors file, checked in full before anything is built from it.

Layout: 8 bytes little-endian length N, N bytes of JSON padded with spaces, tensor data to the end
of the file. Every count and offset is compared with the file's size as a Python integer: numpy's
would wrap. What is accepted here, the `safetensors` library accepts too; the reverse does not hold,
since duplicate keys, for instance, let two readers see two different files.
Format: https://huggingface.co/docs/safetensors.
"""

from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, NoReturn

from entrenar_common.errors import FormatError, UnsupportedError
from entrenar_common.text import escape_controls
from entrenar_core.io.dtypes import DType, by_name
from entrenar_core.io.other_kinds import refuse_as_something_else
from entrenar_core.io.strict_json import parse_json

PREFIX_BYTES = 8
MAX_HEADER_BYTES = 100_000_000
MAX_METADATA_BYTES = 16 * 2**20
MAX_TENSORS = 1_000_000
MAX_NAME_BYTES = 1024
MAX_RANK = 16
MAX_TENSOR_BYTES = 2**63 - 1

_FETCH_AGAIN = "the file is damaged or incomplete: fetch or write it again"

_KEYS = {"dtype", "shape", "data_offsets"}


@dataclass(frozen=True)
class TensorInfo:
    """Where one tensor is: bytes `begin` to `end` after the header, `dtype` and `shape`."""

    name: str
    dtype: DType
    shape: tuple[int, ...]
    begin: int
    end: int

    @property
    def size(self) -> int:
        """The number of elements."""
        return prod(self.shape)

    @property
    def nbytes(self) -> int:
        """The bytes of its data."""
        return self.end - self.begin


@dataclass(frozen=True)
class Header:
    """What a safetensors file says about itself; `data_start` counts from the file's first byte."""

    tensors: dict[str, TensorInfo]
    metadata: dict[str, str]
    data_start: int


def check_prefix(head: bytes, size: int, path: Path) -> int:
    """The header's length, from the first bytes of a file of `size` bytes."""
    if size == 0:
        raise FormatError(f"{path}: empty file", hint=_FETCH_AGAIN)
    if size < PREFIX_BYTES:
        raise FormatError(
            f"{path}: {size} bytes, shorter than the 8-byte length at the start of a safetensors "
            "file",
            hint=_FETCH_AGAIN,
        )
    length = int.from_bytes(head[:PREFIX_BYTES], "little")
    problem = None
    if length > MAX_HEADER_BYTES:
        problem = f"header length {length} exceeds the limit of {MAX_HEADER_BYTES}"
    elif length > size - PREFIX_BYTES:
        problem = f"header of {length} bytes runs past the end of the file of {size} bytes"
    elif length < 2:
        problem = f"header length {length} is less than the 2 bytes of '{{}}'"
    elif head[PREFIX_BYTES : PREFIX_BYTES + 1] != b"{":
        problem = "the header does not start with '{' (at byte 8)"
    if problem:
        refuse_as_something_else(head, path, "safetensors")
        raise FormatError(f"{path}: {problem}", hint=_FETCH_AGAIN)
    return length


def parse_header(raw: bytes, size: int, path: Path) -> Header:
    """The header from its bytes, in a file of `size` bytes; any inconsistency is a FormatError."""
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        byte = PREFIX_BYTES + error.start
        raise FormatError(
            f"{path}: the header is not UTF-8 (at byte {byte})", hint=_FETCH_AGAIN
        ) from (error)
    if text.rstrip(" ")[-1:] != "}":
        _fail(path, "the header does not end with '}' and spaces")
    found = parse_json(text, path, parse_float=_no_float, parse_int=_natural)
    metadata = _metadata(found.pop("__metadata__", {}), path)
    if len(found) > MAX_TENSORS:
        _fail(path, f"{len(found)} tensors, more than the limit of {MAX_TENSORS}")
    tensors = {name: _tensor(name, entry, path) for name, entry in found.items()}
    data_start = PREFIX_BYTES + len(raw)
    _check_coverage(tensors, size - data_start, path)
    return Header(tensors, metadata, data_start)


def _fail(path: Path, what: str) -> NoReturn:
    raise FormatError(f"{path}: {what}", hint=_FETCH_AGAIN)


def _no_float(text: str) -> NoReturn:
    raise ValueError(f"{text[:40]} is not a whole number")


def _natural(text: str) -> int:
    if text.startswith("-") or len(text) > 19:  # 2⁶³ has 19 digits
        raise ValueError(f"{text[:40]} is not a whole number from 0 to 2⁶³")
    return int(text)


def _metadata(value: Any, path: Path) -> dict[str, str]:
    if type(value) is not dict or any(type(v) is not str for v in value.values()):
        _fail(path, "__metadata__ is not a map of text to text")
    if sum(len(k) + len(v) for k, v in value.items()) > MAX_METADATA_BYTES:
        _fail(path, f"__metadata__ is longer than the limit of {MAX_METADATA_BYTES} bytes")
    return value


def check_name(name: str) -> str | None:
    """What is wrong with a tensor's name, or None."""
    if len(name.encode()) > MAX_NAME_BYTES:
        return f"longer than {MAX_NAME_BYTES} bytes"
    if any(ord(c) < 32 or 127 <= ord(c) < 160 for c in name):
        return "has control characters"
    return None


def _tensor(name: str, entry: Any, path: Path) -> TensorInfo:
    label = f"tensor '{escape_controls(name[:80])}'"
    if problem := check_name(name):
        _fail(path, f"{label}: the name {problem}")
    if type(entry) is not dict or entry.keys() != _KEYS:
        _fail(path, f"{label}: must have exactly dtype, shape and data_offsets")
    if type(entry["dtype"]) is not str:
        _fail(path, f"{label}: dtype is not text")
    shape = _integers(entry["shape"], f"{label}: shape", path)
    offsets = _integers(entry["data_offsets"], f"{label}: data_offsets", path)
    if len(shape) > MAX_RANK:
        _fail(path, f"{label}: shape has {len(shape)} dimensions, more than {MAX_RANK}")
    if len(offsets) != 2 or offsets[0] > offsets[1]:
        _fail(path, f"{label}: data_offsets must be a begin and an end, not {list(offsets)[:4]}")
    try:
        dtype = by_name(entry["dtype"])
    except UnsupportedError as error:
        raise UnsupportedError(f"{path}: {label}: {error}", hint=error.hint) from None
    _check_size(dtype, shape, offsets[1] - offsets[0], label, path)
    return TensorInfo(name, dtype, shape, *offsets)


def _integers(value: Any, label: str, path: Path) -> tuple[int, ...]:
    # type(), since True is an int to isinstance
    if type(value) is not list or any(type(v) is not int for v in value):
        _fail(path, f"{label} is not a list of whole numbers")
    return tuple(value)


def _check_size(dtype: DType, shape: tuple[int, ...], size: int, label: str, path: Path) -> None:
    # the extent without zeros, since numpy's limit holds for it even where the size is 0
    if prod(n for n in shape if n) * dtype.bits > 8 * MAX_TENSOR_BYTES:
        _fail(path, f"{label}: shape {list(shape)} is too large to exist")
    bits = prod(shape) * dtype.bits
    if bits % 8:
        _fail(path, f"{label}: {prod(shape)} elements of {dtype} do not fill whole bytes")
    if bits != 8 * size:
        _fail(
            path,
            f"{label}: shape {list(shape)} of {dtype} takes {bits // 8} bytes, data_offsets span "
            f"{size}",
        )


def _check_coverage(tensors: dict[str, TensorInfo], data_size: int, path: Path) -> None:
    """Tensors, in order of place, follow each other without hole or overlap to the file's end."""
    expected = 0
    for info in sorted(tensors.values(), key=lambda t: (t.begin, t.end)):
        label = f"tensor '{escape_controls(info.name[:80])}'"
        if info.end > data_size:
            missing = info.end - data_size
            _fail(path, f"{label} ends {missing} bytes past the end of the file: it is truncated")
        if info.begin != expected:
            what = "overlaps the one before it" if info.begin < expected else "follows a hole"
            _fail(path, f"{label} {what}: it begins at {info.begin}, not at {expected}")
        expected = info.end
    if expected != data_size:
        _fail(path, f"{data_size - expected} unexpected bytes after the tensor data")
