"""Writing a zip archive as torch.save does: records stored, aligned, described after their data.

Each record's data begins at a multiple of 64 bytes, after padding in an extra field, so that
PyTorch can map it and can compute where it is; checksum and sizes follow the data.
"""

import zlib
from collections.abc import Iterable
from struct import pack
from typing import Protocol

from entrenar_core.io.torch_zip import (
    CENTRAL,
    CENTRAL_MAGIC,
    DESCRIBED_AFTER,
    DESCRIPTOR,
    DESCRIPTOR_64,
    DESCRIPTOR_MAGIC,
    END,
    END_64,
    END_64_MAGIC,
    END_MAGIC,
    LOCAL,
    LOCAL_MAGIC,
    LOCATOR,
    LOCATOR_MAGIC,
    MAX_16,
    MAX_32,
    UTF_8,
    ZIP_64,
)

ALIGNMENT = 64

_ROOT = "archive"
_NEEDS_64 = 45  # the version of PKZIP that reads 64-bit sizes
_PADDING = b"FB"  # the kind of the extra field, as PyTorch calls it


class Output(Protocol):
    """What an archive is written to, an AtomicWriter: `size` is how much has been written."""

    size: int

    def write(self, data: bytes | memoryview) -> None: ...


class ZipWriter:
    """Writes records below one root to `output`, which nothing else has been written to."""

    def __init__(self, output: Output) -> None:
        self._output = output
        self._entries: list[bytes] = []

    def add(self, name: str, size: int, parts: Iterable[bytes | memoryview]) -> None:
        """Writes a record whose data is the parts, one after the other, `size` bytes together."""
        raw, header = f"{_ROOT}/{name}".encode(), self._output.size
        # torch leaves the descriptor out where there is no data
        flags = UTF_8 | (DESCRIBED_AFTER if size else 0)
        extra = _wide(size, size, header)
        extra += _padding(header + LOCAL.size + len(raw) + len(extra))
        self._output.write(
            LOCAL.pack(LOCAL_MAGIC, 0, flags, 0, 0, 0, 0, 0, 0, len(raw), len(extra)) + raw + extra
        )
        begin, crc = self._output.size, 0
        for part in parts:
            self._output.write(part)
            crc = zlib.crc32(part, crc)
        assert self._output.size - begin == size
        if size:
            layout = DESCRIPTOR_64 if max(size, header) >= MAX_32 else DESCRIPTOR
            self._output.write(layout.pack(DESCRIPTOR_MAGIC, crc, size, size))
        self._entries.append(_entry(raw, flags, crc, size, header))

    def finish(self) -> None:
        """Writes the directory, with 64-bit and 32-bit ends as torch always does."""
        begin, count = self._output.size, len(self._entries)
        for entry in self._entries:
            self._output.write(entry)
        end = self._output.size
        size = end - begin
        wide = END_64.pack(
            END_64_MAGIC, END_64.size - 12, _NEEDS_64, _NEEDS_64, 0, 0, count, count, size, begin
        )
        narrow = min(count, MAX_16)
        self._output.write(wide + LOCATOR.pack(LOCATOR_MAGIC, 0, end, 1))
        self._output.write(
            END.pack(END_MAGIC, 0, 0, narrow, narrow, min(size, MAX_32), min(begin, MAX_32), 0)
        )


def _padding(at: int) -> bytes:
    """An extra field after which the data is aligned; it has a head of 4 bytes in any case."""
    length = -(at + 4) % ALIGNMENT
    return _PADDING + pack("<H", length) + b"Z" * length


def _wide(*numbers: int) -> bytes:
    """The extra field for those of the numbers that 32 bits do not hold."""
    wide = b"".join(pack("<Q", n) for n in numbers if n >= MAX_32)
    return pack("<2H", ZIP_64, len(wide)) + wide if wide else b""


def _entry(name: bytes, flags: int, crc: int, size: int, header: int) -> bytes:
    extra = _wide(size, size, header)
    version = _NEEDS_64 if extra else 0
    small, place = min(size, MAX_32), min(header, MAX_32)
    lengths = (len(name), len(extra), 0)
    head = CENTRAL.pack(
        CENTRAL_MAGIC, 0, version, flags, 0, 0, 0, crc, small, small, *lengths, 0, 0, 0, place
    )
    return head + name + extra
