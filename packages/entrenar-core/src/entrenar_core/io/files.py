"""The one seam through which files are written: a file is old or new, never half of either.

A file is written under a temporary name in its own folder, hashed while it streams, fsynced (a
large one meanwhile too), renamed over the old one, and the folder is fsynced. After a failed fsync
the kernel marks the pages clean, so the temporary file is thrown away and fsync is never tried
again on it
(Rebello et al., "Can Applications Recover from fsync Failures?", USENIX ATC 2020).
"""

import hashlib
import json
import os
import secrets
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from entrenar_common.errors import StorageError
from entrenar_core.io.locks import lock
from entrenar_core.io.os_calls import os_calls, read_errors, storage_errors
from entrenar_core.io.strict_json import parse_json, read_bytes, read_json, read_text
from entrenar_core.io.sync_ahead import SyncAhead

__all__ = [
    "AtomicWriter",
    "Written",
    "append",
    "append_line",
    "lock",
    "make_folder",
    "move",
    "open_atomic",
    "os_calls",
    "parse_json",
    "probe_writable",
    "publish_folder",
    "read_bytes",
    "read_json",
    "read_text",
    "remove_tree",
    "set_mode",
    "sha256_file",
    "sync",
    "temporary_name",
    "write_bytes",
    "write_json",
    "write_text",
]

AnyPath = str | os.PathLike[str]

_CHUNK = 8 * 2**20
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class Written(NamedTuple):
    """The size and SHA-256 of a file just written."""

    size: int
    sha256: str


_HASHED = 8 * 2**20
"""Bytes that are hashed at a time: between two times a thread has to wait for Python's lock, which
another one may hold for a kernel's time."""


class AtomicWriter:
    """Receives the bytes of one file; `size` and `sha256` are those of what was written so far."""

    def __init__(self, fd: int, path: Path, ahead: SyncAhead) -> None:
        self.size = 0
        self._fd = fd
        self._ahead = ahead
        self._path = path
        self._hash = hashlib.sha256()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Appends `data`, any C-contiguous buffer, without copying it."""
        view = memoryview(data)
        if view.nbytes == 0:
            return  # a view with a zero in its shape cannot be cast
        view = view.cast("B")
        for start in range(0, len(view), _CHUNK):
            chunk = view[start : start + _CHUNK]
            self._write_chunk(chunk)
            self._hash.update(chunk)

    def _write_chunk(self, chunk: memoryview) -> None:
        with storage_errors("write", self._path):
            while chunk:
                written = os_calls.write(self._fd, chunk)  # may be short near a limit
                chunk = chunk[written:]
                self.size += written
            self._ahead.grown(self.size)

    @property
    def sha256(self) -> str:
        """The hexadecimal SHA-256 of the bytes written so far."""
        return self._hash.hexdigest()


def temporary_name(name: str) -> str:
    """A fresh name `.<name>.tmp-<pid>-<random>` that every reader of this library ignores."""
    short = name.encode()[:180].decode(errors="ignore")  # names have at most 255 bytes
    return f".{short}.tmp-{os.getpid()}-{secrets.token_hex(6)}"


@contextmanager
def open_atomic(path: AnyPath, *, mode: int = 0o666) -> Iterator[AtomicWriter]:
    """Writes the file `path` whole or not at all, with the permissions `mode` less the umask's.

    The body writes to the AtomicWriter; when it ends the file appears under its name, on the disk.
    Any exception removes the temporary file and leaves what was there before.
    A symbolic link at `path` is replaced, not followed.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with open_atomic(Path(folder) / "a") as file:
    ...         file.write(b"one")
    ...     (Path(folder) / "a").read_bytes()
    b'one'
    """
    path = Path(path)
    temporary = path.with_name(temporary_name(path.name))
    published = False
    with storage_errors("create a file", path):
        fd = os_calls.open(temporary, _CREATE, mode)
    ahead = SyncAhead(fd)
    try:
        try:
            yield AtomicWriter(fd, path, ahead)
            with storage_errors("write", path):
                ahead.finish()
                os_calls.fsync(fd)
        finally:
            ahead.wait()
            _close_quietly(fd)
        with storage_errors("write", path):
            os_calls.replace(temporary, path)
        published = True
    finally:
        if not published:
            with suppress(OSError):  # the first error is the one to report
                os_calls.unlink(temporary)
    _fsync_folder(path.parent)


def _close_quietly(fd: int) -> None:  # after fsync, close has nothing left to say
    with suppress(OSError):
        os_calls.close(fd)


def _fsync_folder(folder: Path) -> None:
    with storage_errors("sync the folder", folder):
        fd = os_calls.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os_calls.fsync(fd)
        finally:
            _close_quietly(fd)


def write_bytes(path: AnyPath, data: bytes, *, mode: int = 0o666) -> None:
    """Writes `data` to `path`, whole or not at all."""
    with open_atomic(path, mode=mode) as file:
        file.write(data)


def write_text(path: AnyPath, text: str) -> None:
    """Writes `text` to `path` as UTF-8, whole or not at all."""
    write_bytes(path, text.encode())


def write_json(path: AnyPath, value: Any) -> None:
    """Writes `value` as indented JSON, keys in their order; NaN and infinity are a ValueError."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def append_line(path: AnyPath, text: str) -> None:
    """Appends `text` and a newline in one write; if it does not fit whole, nothing is appended."""
    if "\n" in text:
        raise ValueError("append_line writes one line: the text has a newline in it")
    append(path, (text + "\n").encode())


def append(path: AnyPath, data: bytes) -> None:
    """Appends `data` in one write; if it does not fit whole, nothing is appended."""
    path = Path(path)
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
    with storage_errors("append to", path):
        fd = os_calls.open(path, flags, 0o666)
        try:
            before = os.fstat(fd).st_size
            if os_calls.write(fd, data) != len(data):
                os_calls.ftruncate(fd, before)
                raise StorageError(
                    f"{path}: cannot append to: the disk is full or a size limit is reached",
                    hint="free some space or choose an output folder on another disk",
                )
        finally:
            _close_quietly(fd)


def sync(path: AnyPath) -> None:
    """Makes sure that what was appended to the file survives a loss of power; it may be missing."""
    path = Path(path)
    if not path.exists():
        return
    with storage_errors("sync", path):
        fd = os_calls.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os_calls.fsync(fd)
        finally:
            _close_quietly(fd)


def make_folder(path: AnyPath, *, mode: int = 0o777) -> None:
    """Creates the folder and its parents, the folder with the permissions `mode` less the umask's;
    one that is there already is fine, and stays as it is."""
    final = path = Path(path)
    missing = []
    while not path.is_dir():
        missing.append(path)
        if path == path.parent:
            break
        path = path.parent
    for folder in reversed(missing):
        with storage_errors("create the folder", folder):
            try:
                os_calls.mkdir(folder, mode if folder == final else 0o777)
            except FileExistsError:
                if not folder.is_dir():  # another process may have created it meanwhile
                    raise
        _fsync_folder(folder.parent)


def publish_folder(temporary: AnyPath, final: AnyPath) -> None:
    """Gives a finished folder, whose files are synced, its final name; that must not exist yet."""
    temporary, final = Path(temporary), Path(final)
    _fsync_folder(temporary)
    if final.exists() or final.is_symlink():  # rename would replace an empty folder silently
        raise StorageError(
            f"{final}: exists already", hint="move it away or choose another output folder"
        )
    with storage_errors("rename the finished folder to", final):
        os_calls.rename(temporary, final)
    _fsync_folder(final.parent)


def move(path: AnyPath, final: AnyPath) -> None:
    """Gives a file another name in its folder; one that has the name already is not replaced."""
    path, final = Path(path), Path(final)
    if final.exists() or final.is_symlink():
        raise StorageError(f"{final}: exists already", hint="move it away")
    with storage_errors("rename to", final):
        os_calls.rename(path, final)
    _fsync_folder(final.parent)


def set_mode(path: AnyPath, mode: int) -> None:
    """Gives a file or a folder the permissions `mode`."""
    with storage_errors("change the permissions of", path):
        os_calls.chmod(path, mode)


def remove_tree(path: AnyPath) -> None:
    """Removes a file or a folder with all in it; the name is free at once, whatever follows."""
    path = Path(path)
    trash = path.with_name(f".trash-{secrets.token_hex(6)}")
    with storage_errors("remove", path):
        if not path.name.startswith(".trash-"):
            os_calls.rename(path, trash)
            path = trash
        _remove(path)


def _remove(path: Path) -> None:
    if not stat.S_ISDIR(path.lstat().st_mode):  # a link is removed, what it points to stays
        os_calls.unlink(path)
        return
    for child in path.iterdir():
        _remove(child)
    os_calls.rmdir(path)


def probe_writable(folder: AnyPath, *, need_bytes: int = 0) -> int:
    """Creates, writes, syncs, renames and deletes a small file; returns the free bytes.

    Raises StorageError when a step fails or fewer than `need_bytes` are free, so that a run learns
    it before its first step and not at its first checkpoint.
    """
    folder = Path(folder)
    probe = folder / f".probe-{os.getpid()}-{secrets.token_hex(4)}"
    write_bytes(probe, b"probe\n")
    with storage_errors("delete in", folder):
        os_calls.unlink(probe)
        free = shutil.disk_usage(folder).free
    if free < need_bytes:
        raise StorageError(
            f"{folder}: {free} bytes are free, {need_bytes} are needed",
            hint="free some space or choose an output folder on another disk",
        )
    return free


def sha256_file(path: AnyPath) -> str:
    """The hexadecimal SHA-256 of a file's bytes."""
    digest, buffer = hashlib.sha256(), memoryview(bytearray(_HASHED))
    with read_errors(path), Path(path).open("rb", buffering=0) as file:
        while count := file.readinto(buffer):
            digest.update(buffer[:count])
    return digest.hexdigest()
