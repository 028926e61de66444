"""Writing safetensors: streamed from the arrays' own memory, byte for byte as the library would."""

import json
import os
from collections.abc import Iterator, Mapping
from itertools import accumulate, pairwise
from math import prod
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from entrenar_common.errors import ConfigError, ShapeError, UnsupportedError
from entrenar_common.text import escape_controls
from entrenar_core.io import files
from entrenar_core.io.dtypes import DType, by_numpy, order
from entrenar_core.io.files import Written
from entrenar_core.io.kinds import SAFETENSORS_NAMES
from entrenar_core.io.safetensors_header import MAX_HEADER_BYTES, check_name
from entrenar_core.io.streamed import Streamed, written_behind

SINGLE_NAME, INDEX_NAME = SAFETENSORS_NAMES
MAX_SHARD_BYTES = 5 * 10**9

_ALIGNMENT = 8


class _Place(NamedTuple):
    name: str
    dtype: DType
    shape: tuple[int, ...]
    size: int


def write_file(
    path: str | os.PathLike[str],
    tensors: Mapping[str, Any],
    metadata: Mapping[str, str] | None = None,
) -> Written:
    """Writes the tensors to one file, whole or not at all, and returns its size and hash.

    The arrays' memory is written as it is: no second copy, except of a tensor that is not
    C-contiguous, one at a time. Instead of an array the mapping may give what has its `dtype` and
    `shape` and becomes one by `np.asarray`, or has its `pieces` (see `io.streamed`): that is asked
    once, when it is written, and what is made is hashed and written in another thread while the
    next is made.
    The bytes equal those of `safetensors.numpy.save_file`, but for the order of the metadata:
    sorted here, random there.
    """
    places = _order(tensors)
    with files.open_atomic(path) as file, written_behind(file) as write:
        write(_header(places, metadata))
        for place in places:
            for memory in _memories(tensors[place.name], place):
                write(memory)
    return Written(file.size, file.sha256)


def _order(tensors: Mapping[str, Any]) -> list[_Place]:
    places = []
    for name in tensors:
        array, label = tensors[name], f"tensor '{escape_controls(name[:80])}'"
        problem = "is reserved" if name == "__metadata__" else check_name(name)
        if problem:
            raise ConfigError(f"{label}: the name {problem}", hint="rename the tensor")
        try:
            dtype = by_numpy(array.dtype)
        except UnsupportedError as error:
            raise UnsupportedError(f"{label}: {error}", hint=error.hint) from None
        places.append(_Place(name, dtype, array.shape, _size(array)))
    return sorted(places, key=lambda p: (-order(p.dtype), p.name))


def _size(array: np.ndarray) -> int:
    """The bytes in the file, which are more than those of a matrix that is held in few bits."""
    return prod(array.shape) * array.dtype.itemsize


def _header(places: list[_Place], metadata: Mapping[str, str] | None) -> bytes:
    header: dict[str, object] = {}
    if metadata is not None:
        header["__metadata__"] = dict(sorted(metadata.items()))
    bounds = pairwise(accumulate((p.size for p in places), initial=0))
    for place, offsets in zip(places, bounds, strict=True):
        header[place.name] = {
            "dtype": place.dtype.name,
            "shape": place.shape,
            "data_offsets": offsets,
        }
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % _ALIGNMENT)
    if len(text) > MAX_HEADER_BYTES:
        raise ConfigError(
            f"a header of {len(text)} bytes exceeds the format's limit of {MAX_HEADER_BYTES}",
            hint="write fewer tensors or less metadata to one file",
        )
    return len(text).to_bytes(8, "little") + text


def _memories(tensor: Any, place: _Place) -> Iterator[memoryview]:
    if not isinstance(tensor, Streamed):
        array = np.asarray(tensor)
        _check(place, array.dtype, array.shape)
        yield _memory(array)
        return
    _check(place, tensor.dtype, tensor.shape)
    left = place.size
    for piece in tensor.pieces():
        left -= piece.nbytes
        yield _memory(piece)
    assert left == 0


def _check(place: _Place, dtype: np.dtype, shape: tuple[int, ...]) -> None:
    if shape != place.shape or by_numpy(dtype) != place.dtype:
        raise ShapeError(
            f"tensor '{escape_controls(place.name)}' is {dtype}{list(shape)} now, and "
            f"was {place.dtype}{list(place.shape)} before",
            hint="a mapping must return the same tensor each time",
        )


def _memory(array: np.ndarray) -> memoryview:
    if array.dtype.byteorder == ">":
        array = array.astype(array.dtype.newbyteorder("<"))
    flat = np.ascontiguousarray(array).reshape(-1)
    return flat.view(np.uint8).data  # as bytes, since ml_dtypes' types have no buffer of their own


class Journal(Protocol):
    """What knows of files that a folder has already, and is told of those that are written."""

    def has(self, path: Path) -> bool: ...

    def add(self, path: Path, written: Written) -> None: ...


def write_folder(
    folder: str | os.PathLike[str],
    tensors: Mapping[str, Any],
    max_shard_bytes: int = MAX_SHARD_BYTES,
    metadata: Mapping[str, str] | None = None,
    *,
    journal: Journal | None = None,
) -> list[Path]:
    """Writes a model's tensors as Hugging Face does, and returns the files' paths.

    One file `model.safetensors`, or shards of at most `max_shard_bytes` of data (a larger tensor
    has one of its own) in the mapping's order, with an index written last. `metadata` is
    `{"format": "pt"}` unless given. Weights that were in the folder are replaced; wherever it stops
    half-way, the folder has the old ones or none that can be read, never a mixture. With a
    `journal`, files that it has are not written anew.
    """
    folder = Path(folder)
    metadata = {"format": "pt"} if metadata is None else metadata
    shards = _shards(tensors, max_shard_bytes)

    def write(path: Path, names: list[str]) -> None:
        if journal is not None and journal.has(path):
            return
        written = write_file(path, _Subset(tensors, names), metadata)
        if journal is not None:
            journal.add(path, written)

    if len(shards) == 1:
        path = folder / SINGLE_NAME
        write(path, shards[0])
        _remove_others(folder, {path})
        return [path]
    # without its entry points a folder is no model: shards can then be replaced one by one
    _remove_others(folder, set(folder.glob("model-*.safetensors")))
    weight_map: dict[str, str] = {}
    paths = []
    for number, names in enumerate(shards, 1):
        path = folder / f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        write(path, names)
        weight_map.update(dict.fromkeys(names, path.name))
        paths.append(path)
    index = {
        "metadata": {"total_size": sum(_size(tensors[name]) for name in tensors)},
        "weight_map": dict(sorted(weight_map.items())),
    }
    paths.append(folder / INDEX_NAME)
    files.write_json(paths[-1], index)
    _remove_others(folder, set(paths))
    return paths


def _remove_others(folder: Path, kept: set[Path]) -> None:
    old = [folder / SINGLE_NAME, folder / INDEX_NAME, *sorted(folder.glob("model-*.safetensors"))]
    for path in old:
        if path not in kept and (path.exists() or path.is_symlink()):
            files.remove_tree(path)


def _shards(tensors: Mapping[str, Any], max_shard_bytes: int) -> list[list[str]]:
    shards: list[list[str]] = [[]]
    room = max_shard_bytes
    for name in tensors:
        size = _size(tensors[name])
        if size > room and shards[-1]:
            shards.append([])
            room = max_shard_bytes
        shards[-1].append(name)
        room -= size
    return shards


class _Subset(Mapping[str, Any]):
    """Some tensors of a mapping, looked up only when asked for."""

    def __init__(self, tensors: Mapping[str, Any], names: list[str]) -> None:
        self._tensors = tensors
        self._names = names

    def __getitem__(self, name: str) -> Any:
        return self._tensors[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)
