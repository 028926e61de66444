"""A file mapped into memory for reading; that it changes meanwhile is noticed, not read."""

from __future__ import annotations

import mmap
import os
import stat
import sys
import weakref
from pathlib import Path
from typing import TYPE_CHECKING

from entrenar_common.errors import IntegrityError, NotFoundError, UnsupportedError
from entrenar_core.io.os_calls import read_errors

if TYPE_CHECKING:
    import numpy as np

_Stamp = tuple[int, int, int, int]


class MappedFile:
    """A regular file, opened once. Arrays of its bytes stay valid after `close`.

    `head` reads with system calls; `map` maps the whole, which `view` and `release` then use.
    `kind` is what the file is to be, for messages.

    Raises NotFoundError (no such file, no regular file), StorageError, and UnsupportedError on a
    big-endian machine.
    """

    def __init__(self, path: str | os.PathLike[str], kind: str) -> None:
        self.path = Path(path)
        if sys.byteorder != "little":
            raise UnsupportedError(
                f"{self.path}: {kind} is little-endian and this machine is not",
                hint="use a little-endian machine",
            )
        with read_errors(self.path):
            # O_NONBLOCK: opening a pipe would wait for a writer
            fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
            self._close_fd = weakref.finalize(self, os.close, fd)
        self._fd = fd
        self._map: mmap.mmap | None = None
        try:
            self._stamp = self._regular_file_stamp()
        except BaseException:
            self._close_fd()
            raise

    def _regular_file_stamp(self) -> _Stamp:
        with read_errors(self.path):
            found = os.fstat(self._fd)
        if not stat.S_ISREG(found.st_mode):
            raise NotFoundError(
                f"{self.path}: not a regular file", hint="give the path of a file, not of a folder"
            )
        return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns

    @property
    def size(self) -> int:
        """The file's bytes when it was opened."""
        return self._stamp[2]

    def head(self, length: int, begin: int = 0) -> bytes:
        """At most `length` bytes from `begin` on, read without the mapping."""
        with read_errors(self.path):
            found = os.pread(self._fd, length, begin)
        if len(found) != max(0, min(length, self.size - begin)):
            raise self.changed()
        return found

    def map(self) -> mmap.mmap:
        """The whole file, mapped; it must not be empty."""
        if self._map is None:
            with read_errors(self.path):
                try:
                    self._map = mmap.mmap(self._fd, self.size, access=mmap.ACCESS_READ)
                except ValueError:  # it has become shorter since
                    raise self.changed() from None
        return self._map

    def view(self, begin: int, end: int) -> np.ndarray:
        """A read-only view of the mapped bytes, uint8; IntegrityError when the file has changed."""
        import numpy as np  # who reads headers alone does not wait for it

        if self._map is None:
            raise ValueError(f"{self.path}: read after close")
        # a file cut short under a mapping kills the process at the first touch beyond its end
        self.check_unchanged()
        assert 0 <= begin <= end <= len(self._map)  # the header was checked; slices would clamp
        return np.frombuffer(self._map, np.uint8)[begin:end]

    def check_unchanged(self) -> None:
        """Raises IntegrityError when the file was changed in place since it was opened."""
        if self._regular_file_stamp() != self._stamp:
            raise self.changed()

    def changed(self) -> IntegrityError:
        """The error for a file that someone writes to."""
        return IntegrityError(
            f"{self.path}: the file changed while it was being read",
            hint="find out what writes to it, then run again",
        )

    def release(self, begin: int, end: int) -> None:
        """Lets the kernel drop these bytes' pages from memory; a later read brings them back."""
        begin = -(-begin // mmap.PAGESIZE) * mmap.PAGESIZE  # whole pages only, not the neighbours'
        if self._map is not None and end > begin:
            self._map.madvise(mmap.MADV_DONTNEED, begin, end - begin)

    def close(self) -> None:
        """Closes the file; arrays that were read stay valid and keep its memory mapped."""
        self._map = None
        self._close_fd()
