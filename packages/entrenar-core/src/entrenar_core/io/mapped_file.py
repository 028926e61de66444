"""A regular file, opened once and mapped into memory, that notices when it changes underneath."""

import mmap
import os
import stat
import sys
import weakref
from pathlib import Path

import numpy as np

from entrenar_common.errors import IntegrityError, NotFoundError, UnsupportedError
from entrenar_core.io.os_calls import read_errors

_Stamp = tuple[int, int, int, int]


class MappedFile:
    """The bytes of a file, read-only; `size` is their number.

    Views stay valid after `close`, and after the file is replaced by renaming another over it.

    Raises NotFoundError where there is no such regular file, UnsupportedError on a machine that is
    not little-endian: all formats that are read through it are.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        if sys.byteorder != "little":
            raise UnsupportedError(
                f"{path}: its numbers are little-endian and this machine is not",
                hint="use a little-endian machine",
            )
        with read_errors(path):
            # O_NONBLOCK: opening a pipe would wait for a writer
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
            self._close_fd = weakref.finalize(self, os.close, fd)
        self._fd = fd
        self._map: mmap.mmap | None = None
        try:
            self._stamp = self._regular_file_stamp()
        except BaseException:
            self._close_fd()
            raise
        self.size = self._stamp[2]

    def _regular_file_stamp(self) -> _Stamp:
        with read_errors(self.path):
            found = os.fstat(self._fd)
        if not stat.S_ISREG(found.st_mode):
            raise NotFoundError(
                f"{self.path}: not a regular file", hint="give the path of a file, not of a folder"
            )
        return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns

    def start(self, length: int) -> bytes:
        """The first `length` bytes, or all of a shorter file, without mapping it."""
        with read_errors(self.path):
            return os.pread(self._fd, length, 0)

    def read(self, begin: int, end: int) -> bytes:
        """A copy of the bytes from `begin` to `end`, without mapping the file."""
        with read_errors(self.path):
            found = os.pread(self._fd, end - begin, begin)
        if len(found) != end - begin:
            raise self.changed()
        return found

    def map(self) -> mmap.mmap:
        """The whole file, mapped; an empty one cannot be."""
        if self._map is None:
            if not self._close_fd.alive:
                raise ValueError(f"{self.path}: read after close")
            with read_errors(self.path):
                try:
                    self._map = mmap.mmap(self._fd, self.size, access=mmap.ACCESS_READ)
                except ValueError:  # it has become shorter since
                    raise self.changed() from None
        return self._map

    def view(self, begin: int, end: int) -> np.ndarray:
        """The bytes from `begin` to `end` as a read-only uint8 array on the mapped file.

        Raises IntegrityError when the file was changed in place since it was opened.
        """
        mapped = self.map()
        # a file cut short under a mapping kills the process at the first touch beyond its end
        self.check_unchanged()
        assert 0 <= begin <= end <= len(mapped)  # readers checked it; slices would clamp
        return np.frombuffer(mapped, np.uint8)[begin:end]

    def check_unchanged(self) -> None:
        """Raises IntegrityError when the file was changed in place since it was opened."""
        if self._regular_file_stamp() != self._stamp:
            raise self.changed()

    def changed(self) -> IntegrityError:
        """The error for a file that is not what it was when it was opened."""
        return IntegrityError(
            f"{self.path}: the file changed while it was being read",
            hint="find out what writes to it, then run again",
        )

    def release(self, begin: int, end: int) -> None:
        """Lets the kernel drop these bytes from memory; they come back when they are touched."""
        begin = -(-begin // mmap.PAGESIZE) * mmap.PAGESIZE  # whole pages only, not the neighbours'
        if self._map is not None and end > begin:
            self._map.madvise(mmap.MADV_DONTNEED, begin, end - begin)

    def close(self) -> None:
        """Closes the file; views stay valid and keep its memory mapped."""
        self._map = None
        self._close_fd()
