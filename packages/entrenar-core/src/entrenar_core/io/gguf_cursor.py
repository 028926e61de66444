"""Reading a GGUF header piece by piece, never beyond its end."""

import mmap
import struct
from pathlib import Path
from typing import NoReturn

from entrenar_common.errors import FormatError
from entrenar_core.io.gguf_strings import LENGTH_BYTES

FETCH_AGAIN = "the file is damaged or incomplete: fetch or write it again"

_U32, _U64 = struct.Struct("<I"), struct.Struct("<Q")


class MoreNeeded(Exception):
    """The header goes on beyond the bytes that are here: at least `length` of the file are needed.

    Only where less than the whole file is read; who fetches the rest handles it.
    """

    def __init__(self, length: int) -> None:
        super().__init__(f"the first {length} bytes of the file are needed")
        self.length = length


class Cursor:
    """Reads on from `place`; what does not fit in the file is a FormatError.

    `data` are the first bytes of a file of `size`, all of it where that is None.
    """

    def __init__(self, data: bytes | mmap.mmap, path: Path, *, size: int | None = None) -> None:
        self.data = data
        self.path = path
        self.place = 4
        self.end = len(data) if size is None else size
        self.here = len(data)
        assert self.here <= self.end

    def fail(self, what: str) -> NoReturn:
        raise FormatError(f"{self.path}: {what}", hint=FETCH_AGAIN)

    def take(self, length: int, what: str) -> int:
        """The place of the next `length` bytes, which are passed."""
        begin = self.place
        if length > self.end - begin:
            self.fail(
                f"{what} (at byte {begin}) takes {length} bytes, and {self.end - begin} are left "
                "in the file"
            )
        self.need(begin + length)
        self.place = begin + length
        return begin

    def need(self, length: int) -> None:
        """Raises MoreNeeded where the first `length` bytes, all in the file, are not all here."""
        if length > self.here:
            raise MoreNeeded(length)

    def u32(self, what: str) -> int:
        return _U32.unpack_from(self.data, self.take(4, what))[0]

    def u64(self, what: str) -> int:
        return _U64.unpack_from(self.data, self.take(8, what))[0]

    def text(self, what: str, most: int) -> str:
        length = self.u64(what)
        if length > most:
            self.fail(
                f"{what} (at byte {self.place - LENGTH_BYTES}) has {length} bytes, more than "
                f"the limit of {most}"
            )
        begin = self.take(length, what)
        return decode_text(self.data[begin : begin + length], begin, what, self.path)


def decode_text(raw: bytes, place: int, what: str, path: Path) -> str:
    """Text from its bytes, which are at `place`; FormatError where they are not UTF-8."""
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        raise FormatError(
            f"{path}: {what} is not UTF-8 (at byte {place + error.start})", hint=FETCH_AGAIN
        ) from None
