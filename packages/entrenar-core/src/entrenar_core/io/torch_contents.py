"""The two containers of torch.save: the zip archive, and the stacked pickles from before 1.6.

Archive: `data.pkl` with the object, `data/<key>` with the bytes of each storage, `version` and
`byteorder`. Stacked: pickles of a magic number, a version, the machine, the object and the list of
storage keys, then for each key the number of elements in 8 bytes and the elements.
"""

import mmap
import re
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from entrenar_common.errors import FormatError, IntegrityError, UnsupportedError
from entrenar_common.text import escape_controls
from entrenar_core.io.other_kinds import (
    HEAD_BYTES,
    refuse_as_something_else,
    refuse_safetensors,
)
from entrenar_core.io.torch_pickle import MAX_PICKLE_BYTES, unpickle
from entrenar_core.io.torch_records import DAMAGED, UNTYPED, Named, Storage, is_natural
from entrenar_core.io.torch_zip import Record, read_directory

MAX_VERSION = 10  # of archives; PyTorch 2.13 writes 3 and reads up to this
STACKED_VERSION = 1001

_FETCH_AGAIN = "the file is damaged or incomplete: fetch or write it again"
_MAGIC = b"\x8a\x0a" + (0x1950A86A20F9469CFC6C).to_bytes(10, "little") + b"."
_KEY = re.compile(r"[0-9]+", re.ASCII)
_SMALL = 64  # bytes of the records that hold a word
_ARCHIVE_FIELDS, _STACKED_FIELDS = 5, 6  # of what the pickle says of a storage


@dataclass(frozen=True)
class Contents:
    """The saved object, and where the bytes of its storages are; `crc` of a place is None where
    the container has no checksums."""

    value: Any
    places: dict[str, Record]


def read_contents(data: mmap.mmap, path: Path) -> Contents:
    """What is in a file of torch.save, its pickles interpreted and its storages located.

    Raises FormatError, RefusedError, UnsupportedError (see `unpickle` and `read_directory`), and
    IntegrityError where a checksum is wrong.
    """
    head = data[:HEAD_BYTES]
    if head.startswith(b"PK\x03\x04"):
        return _read_archive(data, path)
    if data[257:262] == b"ustar":
        raise UnsupportedError(
            f"{path}: PyTorch's format from before version 0.1.10, a tar archive, is not read",
            hint="convert it with torch, on a machine where nothing can be harmed",
        )
    if head.startswith(b"\x80"):
        return _read_stacked(data, path)
    refuse_safetensors(head, path)
    refuse_as_something_else(head, path, "safetensors")
    raise FormatError(f"{path}: not a file of torch.save", hint=_FETCH_AGAIN)


class _Storages:
    """Makes storages of what the pickle says of them, and keeps them by key."""

    def __init__(self, fields: int) -> None:
        self.found: dict[str, Storage] = {}
        self.fields = fields

    def __call__(self, about: tuple[Any, ...]) -> Storage:
        if len(about) != self.fields:
            raise FormatError(f"a storage with {len(about)} properties, not {self.fields}")
        _, kind, key, location, numel = about[:5]
        if type(kind) is not Named or kind.storage is None:
            raise FormatError("a storage without a type")
        if type(key) is not str or not _KEY.fullmatch(key) or type(location) is not str:
            raise FormatError("a storage whose key is not a number in text", hint=DAMAGED)
        if not is_natural(numel) or not is_natural(8 * numel):
            raise FormatError("a storage whose number of elements is none", hint=DAMAGED)
        stacked = len(about) == _STACKED_FIELDS
        if stacked and (about[5] is not None or kind.name == UNTYPED):
            raise UnsupportedError(  # nor does torch.load(weights_only=True) read it
                "a storage without type, or that is a part of another one, in stacked pickles",
                hint="convert it with torch, on a machine where nothing can be harmed",
            )
        storage = Storage(kind.storage, key, numel, kind.name == UNTYPED)
        if self.found.setdefault(key, storage) != storage:
            raise FormatError(f"storage {key} is described in two ways", hint=DAMAGED)
        return storage


def _read_archive(data: mmap.mmap, path: Path) -> Contents:
    records = read_directory(data, len(data), path)
    version = _word(data, records, "version", path).removesuffix("\n")
    if not _KEY.fullmatch(version):
        _fail(path, "the archive's version is not a number", records["version"].begin)
    if not 1 <= int(version) <= MAX_VERSION:
        raise UnsupportedError(
            f"{path}: version {version} of PyTorch's archives is not known",
            hint="save it again with PyTorch 1.6 to 2.13",
        )
    order = _word(data, records, "byteorder", path) if "byteorder" in records else "little"
    if order == "big":
        raise _big_endian(path)
    if order != "little":
        _fail(path, "the byte order is neither little nor big", records["byteorder"].begin)
    place = _record(records, "data.pkl", path)
    if place.size > MAX_PICKLE_BYTES:
        _fail(path, f"data.pkl has more than {MAX_PICKLE_BYTES} bytes", place.begin)
    check_crc(data, place, path, "data.pkl")
    pickled, storages = data[place.begin : place.end], _Storages(_ARCHIVE_FIELDS)
    label = f"{path}: data.pkl"
    value, end = unpickle(pickled, label, begin=0, end=len(pickled), persistent=storages)
    if end != len(pickled):
        _fail(path, f"{len(pickled) - end} unexpected bytes after the pickle in data.pkl", end)
    places = {}
    for key, storage in storages.found.items():
        places[key] = _record(records, f"data/{key}", path)
        if places[key].size != storage.nbytes:
            what = f"data/{key} has {places[key].size} bytes, and its storage {storage.nbytes}"
            _fail(path, what, places[key].begin)
    return Contents(value, places)


def _record(records: dict[str, Record], name: str, path: Path) -> Record:
    if name not in records:
        raise FormatError(
            f"{path}: not one of torch.save: there is no record {escape_controls(name[:80])}",
            hint=_FETCH_AGAIN,
        )
    return records[name]


def _word(data: mmap.mmap, records: dict[str, Record], name: str, path: Path) -> str:
    place = _record(records, name, path)
    if place.size > _SMALL:
        _fail(path, f"record {name} has {place.size} bytes", place.begin)
    check_crc(data, place, path, name)
    return data[place.begin : place.end].decode("latin1")


def check_crc(data: mmap.mmap, place: Record, path: Path, name: str) -> None:
    """IntegrityError where the bytes of a record are not those its checksum was made of."""
    step, crc = 2**20, 0
    for begin in range(place.begin, place.end, step):
        crc = zlib.crc32(data[begin : min(begin + step, place.end)], crc)
    if place.crc is not None and crc != place.crc:
        raise IntegrityError(
            f"{path}: the checksum of record {name} is wrong (at byte {place.begin})",
            hint="the file is damaged, or was saved without checksums: fetch or save it again",
        )


def _read_stacked(data: mmap.mmap, path: Path) -> Contents:
    if data[2 : 2 + len(_MAGIC)] != _MAGIC:
        _fail(path, "a pickle, and not one of torch.save: its magic number is not there", 0)
    size, label, at = len(data), str(path), 2 + len(_MAGIC)
    version, at = unpickle(data, label, begin=at, end=size)
    if type(version) is not int or version != STACKED_VERSION:
        _fail(path, f"the version of the stacked pickles is not {STACKED_VERSION}", at)
    at = _check_machine(data, path, at)
    storages = _Storages(_STACKED_FIELDS)
    value, at = unpickle(data, label, begin=at, end=size, persistent=storages)
    keys, at = unpickle(data, label, begin=at, end=size)
    if type(keys) is not list or any(type(key) is not str for key in keys):
        _fail(path, "the list of storages is not one of keys", at)
    if len(set(keys)) != len(keys) or set(keys) != set(storages.found):
        _fail(path, "the list of storages is not that of the tensors", at)
    places = {}
    for key in keys:
        storage = storages.found[key]
        begin = at + 8
        if begin + storage.nbytes > size:
            missing = begin + storage.nbytes - size
            _fail(path, f"storage {key} ends {missing} bytes past the file: it is truncated", at)
        if int.from_bytes(data[at:begin], "little") != storage.numel:
            _fail(path, f"storage {key} says another number of elements than its tensors", at)
        at = begin + storage.nbytes
        places[key] = Record(begin, at, None)
    if at != size:
        _fail(path, f"{size - at} unexpected bytes after the last storage", at)
    return Contents(value, places)


def _check_machine(data: mmap.mmap, path: Path, at: int) -> int:
    """Where the pickle about the machine that saved the file ends, if that was little-endian."""
    machine, end = unpickle(data, str(path), begin=at, end=len(data))
    little = machine.get("little_endian") if type(machine) is dict else None
    if type(little) is not bool:
        _fail(path, "the description of the machine does not say its byte order", at)
    if not little:
        raise _big_endian(path)
    return end


def _big_endian(path: Path) -> UnsupportedError:
    return UnsupportedError(
        f"{path}: saved on a big-endian machine", hint="save it again on a little-endian one"
    )


def _fail(path: Path, what: str, at: int) -> NoReturn:
    raise FormatError(f"{path}: {what} (at byte {at})", hint=_FETCH_AGAIN)
