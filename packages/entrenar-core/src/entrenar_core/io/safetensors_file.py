"""One safetensors file, mapped into memory and read without copying."""

import mmap
import os
import stat
import sys
import weakref
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np

from entrenar_common.errors import IntegrityError, NotFoundError, UnsupportedError
from entrenar_common.text import escape_controls, nearest
from entrenar_core.io.os_calls import read_errors
from entrenar_core.io.safetensors_header import (
    PREFIX_BYTES,
    Header,
    TensorInfo,
    check_prefix,
    parse_header,
)

_HEAD_BYTES = 64  # enough to recognise what a file is instead
_Stamp = tuple[int, int, int, int]


class SafetensorsFile:
    """A safetensors file, checked whole at opening; arrays are read-only views of the mapped file.

    `tensors` has a TensorInfo for each name, `metadata` is the file's inert text. The format has no
    checksum of the data: a manifest has to bring one. Views stay valid after `close`, and after the
    file is replaced by renaming another over it.

    Raises NotFoundError (no such file), FormatError (malformed or truncated, with what and where),
    UnsupportedError (an unknown element type).
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        if sys.byteorder != "little":
            raise UnsupportedError(
                f"{self.path}: safetensors is little-endian and this machine is not",
                hint="use a little-endian machine",
            )
        with read_errors(self.path):
            # O_NONBLOCK: opening a pipe would wait for a writer
            fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
            self._close_fd = weakref.finalize(self, os.close, fd)
        self._fd = fd
        try:
            self._stamp = self._regular_file_stamp()
            header = self._read_header()
            self._map: mmap.mmap | None = self._map_file()
        except BaseException:
            self._close_fd()
            raise
        self.tensors: dict[str, TensorInfo] = header.tensors
        self.metadata: dict[str, str] = header.metadata
        self._data_start = header.data_start

    def _regular_file_stamp(self) -> _Stamp:
        with read_errors(self.path):
            found = os.fstat(self._fd)
        if not stat.S_ISREG(found.st_mode):
            raise NotFoundError(
                f"{self.path}: not a regular file", hint="give the path of a file, not of a folder"
            )
        return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns

    def _read_header(self) -> Header:
        size = self._stamp[2]
        with read_errors(self.path):
            length = check_prefix(os.pread(self._fd, _HEAD_BYTES, 0), size, self.path)
            raw = os.pread(self._fd, length, PREFIX_BYTES)
        if len(raw) != length:
            raise self._changed()
        return parse_header(raw, size, self.path)

    def _map_file(self) -> mmap.mmap:
        with read_errors(self.path):
            try:
                return mmap.mmap(self._fd, self._stamp[2], access=mmap.ACCESS_READ)
            except ValueError:  # it has become shorter since
                raise self._changed() from None

    def _changed(self) -> IntegrityError:
        return IntegrityError(
            f"{self.path}: the file changed while it was being read",
            hint="find out what writes to it, then run again",
        )

    def names(self) -> list[str]:
        """The tensors' names, sorted."""
        return sorted(self.tensors)

    def info(self, name: str) -> TensorInfo:
        """What the header says of one tensor; NotFoundError when there is no such name."""
        try:
            return self.tensors[name]
        except KeyError:
            raise missing_tensor(name, self.names(), self.path) from None

    @property
    def parameter_count(self) -> int:
        """The number of elements of all tensors."""
        return sum(info.size for info in self.tensors.values())

    def read(self, name: str) -> np.ndarray:
        """The tensor as a read-only array: a view of the mapped file where it is aligned.

        Raises IntegrityError when the file was changed in place since it was opened, and
        UnsupportedError when its elements are smaller than a byte.
        """
        info = self.info(name)
        if info.dtype.numpy is None:
            raise UnsupportedError(
                f"{self.path}: tensor '{escape_controls(name)}' is {info.dtype}, {info.dtype.bits} "
                "bits per element, which no array holds",
                hint="use the model's float version",
            )
        raw = self._bytes(info)
        if raw.ctypes.data % info.dtype.numpy.itemsize:
            raw = raw.copy()
            raw.flags.writeable = False
        return raw.view(info.dtype.numpy).reshape(info.shape)

    def _bytes(self, info: TensorInfo) -> np.ndarray:
        if self._map is None:
            raise ValueError(f"{self.path}: read after close")
        # a file cut short under a mapping kills the process at the first touch beyond its end
        if self._regular_file_stamp() != self._stamp:
            raise self._changed()
        begin, end = self._data_start + info.begin, self._data_start + info.end
        assert 0 <= begin <= end <= len(self._map)  # parse_header checked it; slices would clamp
        return np.frombuffer(self._map, np.uint8)[begin:end]

    def release(self, name: str) -> None:
        """Lets the kernel drop the tensor's pages from memory; a later read brings them back."""
        info = self.info(name)
        begin, end = self._data_start + info.begin, self._data_start + info.end
        begin = -(-begin // mmap.PAGESIZE) * mmap.PAGESIZE  # whole pages only, not the neighbours'
        if self._map is not None and end > begin:
            self._map.madvise(mmap.MADV_DONTNEED, begin, end - begin)

    def close(self) -> None:
        """Closes the file; arrays that were read stay valid and keep its memory mapped."""
        self._map = None
        self._close_fd()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def missing_tensor(name: str, names: list[str], path: Path) -> NotFoundError:
    """The error for a tensor that is not there, with the nearest name that is."""
    close = nearest(name, names)
    return NotFoundError(
        f"{path}: no tensor '{escape_controls(name)}'",
        hint=f"did you mean '{escape_controls(close)}'?"
        if close
        else f"it has {len(names)} others",
    )
