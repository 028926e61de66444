"""Writing what torch.load(weights_only=True) reads: an archive of storages and a pickle of names.

The records are those of torch.save, and so is their order.
"""

import os
from collections.abc import Iterator, Mapping
from math import prod
from struct import pack
from typing import Any, NamedTuple

import numpy as np

from entrenar_common.errors import ConfigError, ShapeError, UnsupportedError
from entrenar_common.text import escape_controls
from entrenar_core.io import files
from entrenar_core.io.dtypes import DType, by_numpy
from entrenar_core.io.files import Written
from entrenar_core.io.safetensors_header import check_name
from entrenar_core.io.streamed import Streamed
from entrenar_core.io.torch_records import STORAGES, UNTYPED
from entrenar_core.io.torch_zip_write import ALIGNMENT, ZipWriter

_CHUNK = 8 * 2**20
_STORAGE_OF = {dtype: storage for storage, dtype in STORAGES.items()}
_WORDS = (
    (".format_version", b"1"),  # PyTorch may then compute where a storage is
    (".storage_alignment", str(ALIGNMENT).encode()),
    ("byteorder", b"little"),
)


class _Tensor(NamedTuple):
    name: str
    dtype: DType
    shape: tuple[int, ...]
    key: int  # of its storage

    @property
    def size(self) -> int:
        return prod(self.shape)

    @property
    def nbytes(self) -> int:
        return self.size * self.dtype.bits // 8


def write_torch(
    path: str | os.PathLike[str],
    tensors: Mapping[str, Any],
    *,
    tied: Mapping[str, str] | None = None,
) -> Written:
    """Writes the tensors as a state dict of PyTorch, whole or not at all; returns size and hash.

    `tied` has further names: each gets the storage of the tensor whose name it maps to. Each tensor
    is looked up twice (shape, then data), so a mapping may produce its arrays when asked, or give
    what has their `pieces` (see `io.streamed`); an array that is not C-contiguous is copied, one at
    a time.

    Raises ConfigError for a name that cannot be, UnsupportedError for a type that PyTorch has not,
    StorageError.
    """
    described = _describe(tensors)
    names = [*described, *_tied(described, tied or {})]
    with files.open_atomic(path) as file:
        archive = ZipWriter(file)
        for name, data in (("data.pkl", _pickle(names)), *_WORDS):
            archive.add(name, len(data), [data])
        for tensor in described:
            archive.add(f"data/{tensor.key}", tensor.nbytes, _memory(tensors[tensor.name], tensor))
        archive.add("version", 2, [b"3\n"])
        archive.finish()
    return Written(file.size, file.sha256)


def _describe(tensors: Mapping[str, Any]) -> list[_Tensor]:
    found = []
    for key, name in enumerate(tensors):
        array, label = tensors[name], f"tensor '{escape_controls(name[:80])}'"
        if problem := check_name(name):
            raise ConfigError(f"{label}: the name {problem}", hint="rename the tensor")
        try:
            dtype = by_numpy(array.dtype)
        except UnsupportedError as error:
            raise UnsupportedError(f"{label}: {error}", hint=error.hint) from None
        found.append(_Tensor(name, dtype, array.shape, key))
    return found


def _tied(described: list[_Tensor], tied: Mapping[str, str]) -> list[_Tensor]:
    by_name = {tensor.name: tensor for tensor in described}
    found = []
    for further, first in tied.items():
        if further in by_name or first not in by_name or check_name(further):
            raise ConfigError(
                f"'{escape_controls(further)}' cannot be a further name of "
                f"'{escape_controls(first)}'",
                hint="tie names that are not among the tensors to names that are",
            )
        found.append(by_name[first]._replace(name=further))
    return found


def _memory(array: np.ndarray | Streamed, tensor: _Tensor) -> Iterator[memoryview]:
    if array.shape != tensor.shape or by_numpy(array.dtype) != tensor.dtype:
        raise ShapeError(
            f"tensor '{escape_controls(tensor.name)}' is {array.dtype}{list(array.shape)} now, and "
            f"was {tensor.dtype}{list(tensor.shape)} before",
            hint="a mapping must return the same tensor each time",
        )
    for piece in array.pieces() if isinstance(array, Streamed) else [array]:
        if piece.dtype.byteorder == ">":
            piece = piece.astype(piece.dtype.newbyteorder("<"))
        flat = np.ascontiguousarray(piece).reshape(-1).view(np.uint8)
        for start in range(0, flat.size, _CHUNK):
            yield flat[start : start + _CHUNK].data


def _pickle(tensors: list[_Tensor]) -> bytes:
    """OrderedDict([(name, _rebuild_tensor_v2(storage, 0, shape, strides, False, {}))…])."""
    parts = [b"\x80\x02", _EMPTY, b"("]
    for tensor in tensors:
        parts += [_text(tensor.name), _rebuilt(tensor)]
    parts.append(b"u.")
    return b"".join(parts)


def _global(name: str) -> bytes:
    module, _, attribute = name.rpartition(".")
    return f"c{module}\n{attribute}\n".encode()


_EMPTY = _global("collections.OrderedDict") + b")R"


def _rebuilt(tensor: _Tensor) -> bytes:
    storage = _STORAGE_OF.get(tensor.dtype.name)
    if storage is not None:
        function, kind, numel, last = "_rebuild_tensor_v2", f"torch.{storage}", tensor.size, b""
    else:  # types that are newer than storages without one
        function, kind = "_rebuild_tensor_v3", UNTYPED
        numel, last = (
            tensor.size * tensor.dtype.bits // 8,
            _global(f"torch.{tensor.dtype.torch_name}"),
        )
    about = [_text("storage"), _global(kind), _text(str(tensor.key)), _text("cpu"), _int(numel)]
    values = [
        b"(" + b"".join(about) + b"tQ",
        _int(0),
        _ints(tensor.shape),
        _ints(_strides(tensor.shape)),
        b"\x89",
        _EMPTY,
        last,
    ]
    return _global(f"torch._utils.{function}") + b"(" + b"".join(values) + b"tR"


def _strides(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Those of an array in C order, in elements; PyTorch counts a length of 0 as 1."""
    found, step = [], 1
    for n in reversed(shape):
        found.append(step)
        step *= max(n, 1)
    return tuple(reversed(found))


def _text(text: str) -> bytes:
    raw = text.encode()
    return b"X" + pack("<I", len(raw)) + raw


def _int(value: int) -> bytes:
    if value < 2**31:
        return b"J" + pack("<i", value)
    return b"\x8a\x08" + pack("<q", value)


def _ints(values: tuple[int, ...]) -> bytes:
    return b"(" + b"".join(map(_int, values)) + b"t"
