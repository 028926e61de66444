"""A file on the hub that is read like one on a disk: what is read is fetched, and no more."""

import io
from typing import Any

from entrenar_core.io.hub_file import HubFile

_END_KEPT = 2**20
"""A read of the file's end that is no longer is kept: a footer is read piece by piece."""


class RangeFile(io.RawIOBase):
    """A file object over ranges of bytes of `file`. Each read is one request, so wrap it in a
    buffer to read lines. Raises what `HubFile.take` raises."""

    def __init__(self, file: HubFile) -> None:
        super().__init__()
        self.file = file
        self._position = 0
        self._end = b""

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        begin = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self.file.size}[whence]
        if begin + offset < 0:
            raise ValueError(f"a position before the file's beginning: {begin + offset}")
        self._position = begin + offset
        return self._position

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        data = self._take(self._position, len(view))
        view[: len(data)] = data
        self._position += len(data)
        return len(data)

    def _take(self, begin: int, length: int) -> bytes:
        kept = self.file.size - len(self._end)
        if begin >= kept:
            return self._end[begin - kept : begin - kept + length]
        data = self.file.take(begin, length)
        if begin + len(data) == self.file.size and len(data) <= _END_KEPT:
            self._end = data
        return data
