"""The directory of the zip archives that torch.save writes, checked strictly.

Archives are where two readers see two files: a name twice, a local header that contradicts the
central one, bytes that belong to no record. So every byte has to belong to exactly one thing, and
everything that is said twice has to be said alike. Records are stored, never compressed, which also
lets them be mapped. Layout: PKWARE's APPNOTE.TXT 6.3.10, sections 4.3 and 4.5.3.
"""

from dataclasses import dataclass
from pathlib import Path
from struct import Struct
from typing import NoReturn, Protocol

from entrenar_common.errors import FormatError, RefusedError, UnsupportedError
from entrenar_common.text import escape_controls

MAX_RECORDS = 1_000_000
MAX_32 = 2**32 - 1
MAX_16 = 2**16 - 1

LOCAL = Struct("<4s5H3I2H")  # magic version flags method time date crc packed size name extra
CENTRAL = Struct("<4s6H3I5H2I")
END = Struct("<4s4H2IH")
END_64 = Struct("<4sQ2H2I4Q")
LOCATOR = Struct("<4sIQI")
DESCRIPTOR = Struct("<4s3I")
DESCRIPTOR_64 = Struct("<4sI2Q")

LOCAL_MAGIC, CENTRAL_MAGIC, END_MAGIC = b"PK\x03\x04", b"PK\x01\x02", b"PK\x05\x06"
END_64_MAGIC, LOCATOR_MAGIC, DESCRIPTOR_MAGIC = b"PK\x06\x06", b"PK\x06\x07", b"PK\x07\x08"
DESCRIBED_AFTER, UTF_8 = 1 << 3, 1 << 11  # flags: CRC and sizes follow the data; names are UTF-8
IS_FOLDER = 0x10  # among a record's attributes
ZIP_64 = 1  # the extra field with sizes and offsets of 64 bits

_FETCH_AGAIN = "the file is damaged or incomplete: fetch or write it again"
_RESAVE = "save it again with torch.save, which stores records as they are"


class Bytes(Protocol):
    """Anything whose slices are bytes: a mapped file."""

    def __getitem__(self, place: slice, /) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Record:
    """Where data is, from byte `begin` to `end` of the file, and its CRC-32 where it has one."""

    begin: int
    end: int
    crc: int | None

    @property
    def size(self) -> int:
        """The bytes of its data."""
        return self.end - self.begin


@dataclass(frozen=True, slots=True)
class _Entry:
    """One line of the central directory."""

    name: bytes
    flags: int
    crc: int
    size: int
    header: int  # where the local header begins


def read_directory(data: Bytes, size: int, path: Path) -> dict[str, Record]:
    """The records of an archive of `size` bytes, by their names below its one root folder.

    Raises FormatError where anything is inconsistent, RefusedError for names that lead out of the
    root, UnsupportedError for TorchScript and model archives.
    """
    return _Archive(data, size, path).records()


class _Archive:
    def __init__(self, data: Bytes, size: int, path: Path) -> None:
        self.data = data
        self.size = size
        self.path = path

    def records(self) -> dict[str, Record]:
        count, begin, end = self._bounds()
        entries = self._entries(count, begin, end)
        names = self._names(entries)
        found, expected = {}, 0
        for entry, name in sorted(zip(entries, names, strict=True), key=lambda e: e[0].header):
            if entry.header != expected:
                what = "overlaps the one before it" if entry.header < expected else "follows a hole"
                self._fail(f"record '{escape_controls(name)}' {what}", entry.header)
            found[name], expected = self._record(entry, name, begin)
        if expected != begin:
            self._fail(f"{begin - expected} bytes belong to no record", expected)
        return found

    def _fail(self, what: str, at: int, hint: str = _FETCH_AGAIN) -> NoReturn:
        raise FormatError(f"{self.path}: {what} (at byte {at})", hint=hint)

    def _part(self, layout: Struct, at: int, end: int, what: str) -> tuple:
        if not 0 <= at <= end - layout.size:
            self._fail(f"the {what} runs past its end at byte {end}", max(at, 0))
        return layout.unpack(self.data[at : at + layout.size])

    def _bounds(self) -> tuple[int, int, int]:
        """How many entries the central directory has, where it begins and where it ends."""
        at = self.size - END.size
        magic, *disks, here, count, size, begin, comment = self._part(
            END, at, self.size, "end of the archive"
        )
        if magic != END_MAGIC or comment:
            self._fail(
                "no end of a zip archive at the end of the file: it is truncated", max(at, 0)
            )
        place = at - LOCATOR.size
        if place >= 0 and self.data[place : place + 4] == LOCATOR_MAGIC:
            wide = self._wide_bounds(place)
            for narrow, value, most in zip(
                (here, count, size, begin), wide, (MAX_16, MAX_16, MAX_32, MAX_32), strict=True
            ):
                if narrow not in (value, most):
                    self._fail("the two ends of the archive contradict each other", at)
            here, count, size, begin = wide
            at = place - END_64.size
        if any(disks) or here != count or begin + size != at:
            self._fail("the end of the archive does not fit the central directory", at)
        if count > min(MAX_RECORDS, size // CENTRAL.size):
            self._fail(f"{count} records do not fit a directory of {size} bytes", at)
        return count, begin, at

    def _wide_bounds(self, place: int) -> tuple[int, int, int, int]:
        _, disk, at, disks = self._part(LOCATOR, place, self.size, "locator")
        if disk or disks != 1 or at != place - END_64.size:
            self._fail("the locator does not point to the 64-bit end before it", place)
        magic, length, _, _, disk, other, *wide = self._part(END_64, at, place, "64-bit end")
        if magic != END_64_MAGIC or length != END_64.size - 12 or disk or other:
            self._fail("malformed 64-bit end of the archive", at)
        here, count, size, begin = wide
        return here, count, size, begin

    def _entries(self, count: int, at: int, end: int) -> list[_Entry]:
        found = []
        for _ in range(count):
            entry, at = self._entry(at, end)
            found.append(entry)
        if at != end:
            self._fail(f"{end - at} unexpected bytes in the central directory", at)
        return found

    def _entry(self, at: int, end: int) -> tuple[_Entry, int]:
        fields = self._part(CENTRAL, at, end, "central directory")
        magic, _, _, flags, method, _, _, crc, packed, size = fields[:10]
        name_length, extra_length, comment, disk, _, attributes, header = fields[10:]
        after = at + CENTRAL.size + name_length + extra_length
        if magic != CENTRAL_MAGIC or after > end:
            self._fail("malformed central directory", at)
        if comment or disk:
            self._fail("a record with a comment or on another disk", at)
        name = self.data[at + CENTRAL.size : at + CENTRAL.size + name_length]
        if attributes & IS_FOLDER or name.endswith(b"/"):
            self._fail("a folder among the records", at)
        shown = escape_controls(name.decode("utf-8", "replace")[:80])
        if flags & ~(DESCRIBED_AFTER | UTF_8):
            self._fail(f"record '{shown}' has flags {flags:#x}: encrypted or patched", at, _RESAVE)
        if method:
            self._fail(f"record '{shown}' is compressed, method {method}", at, _RESAVE)
        extra = self.data[after - extra_length : after]
        size, packed, header = self._widened(extra, (size, packed, header), at)
        if size != packed:
            self._fail(f"record '{shown}' is stored, and {packed} bytes are not its {size}", at)
        return _Entry(name, flags, crc, size, header), after

    def _widened(self, extra: bytes, narrow: tuple[int, int, int], at: int) -> list[int]:
        """Size, packed size and offset, those of 2³² - 1 replaced by the 64-bit ones."""
        wide = self._extras(extra, at).get(ZIP_64, b"")
        found, used = [], 0
        for value in narrow:
            if value == MAX_32:
                if used + 8 > len(wide):
                    self._fail("a 64-bit size or offset is missing", at)
                value = int.from_bytes(wide[used : used + 8], "little")
                used += 8
            found.append(value)
        return found

    def _extras(self, extra: bytes, at: int) -> dict[int, bytes]:
        found: dict[int, bytes] = {}
        place = 0
        while place < len(extra):
            kind = int.from_bytes(extra[place : place + 2], "little")
            length = int.from_bytes(extra[place + 2 : place + 4], "little")
            if place + 4 + length > len(extra) or kind in found:
                self._fail("malformed extra fields", at)
            found[kind] = extra[place + 4 : place + 4 + length]
            place += 4 + length
        return found

    def _names(self, entries: list[_Entry]) -> list[str]:
        """The records' names without the root, which all of them must be in."""
        whole = [self._name(entry) for entry in entries]
        roots = {name.partition("/")[0] for name in whole}
        self._refuse_other_archives(whole)
        if len(roots) != 1 or any("/" not in name for name in whole):
            shown = ", ".join(sorted(escape_controls(root[:40]) for root in roots)[:3])
            self._fail(f"records in {len(roots)} root folders, not one: {shown}", 0)
        seen: set[str] = set()
        for name in whole:
            if name.lower() in seen:  # PyTorch's own search does not look at the case
                self._fail(f"two records are called '{escape_controls(name)}'", 0)
            seen.add(name.lower())
        return [name.partition("/")[2] for name in whole]

    def _name(self, entry: _Entry) -> str:
        try:
            name = entry.name.decode("utf-8")
        except UnicodeDecodeError:
            self._fail("the name of a record is not UTF-8", entry.header)
        parts = name.split("/")
        if "" in parts[:-1] or {".", ".."} & set(parts) or set(name) & set("\\\0"):
            raise RefusedError(
                f"{self.path}: record name '{escape_controls(name[:80])}' leads out of the archive",
                hint="do not unpack it or trust where it came from",
            )
        return name

    def _refuse_other_archives(self, names: list[str]) -> None:
        kind = None
        for name in names:
            if name.partition("/")[2].startswith(("constants.pkl", "code/")):
                kind = "a TorchScript program"
            elif name.startswith("MAR-INF/"):
                kind = "a model archive"
        if kind:
            raise UnsupportedError(
                f"{self.path}: this is {kind}, not a file of weights",
                hint="save the model's state_dict() with torch.save, or as safetensors",
            )

    def _record(self, entry: _Entry, name: str, limit: int) -> tuple[Record, int]:
        """The record, after its local header agreed with its entry, and where the next begins."""
        label = f"record '{escape_controls(name[:80])}'"
        fields = self._part(LOCAL, entry.header, limit, f"local header of {label}")
        magic, _, flags, method, _, _, crc, packed, size, name_length, extra_length = fields
        begin = entry.header + LOCAL.size + name_length + extra_length
        if magic != LOCAL_MAGIC or begin > limit:
            self._fail(f"{label} has no local header", entry.header)
        at = entry.header + LOCAL.size
        if self.data[at : at + name_length] != entry.name or flags != entry.flags or method:
            self._fail(f"the local header of {label} contradicts the directory", entry.header)
        extras = self._extras(self.data[at + name_length : begin], entry.header)
        end = begin + entry.size
        if flags & DESCRIBED_AFTER:
            agrees = (crc, packed, size) == (0, 0, 0)
            after = self._described_end(entry, end, limit, label)
        else:
            wide = extras.get(ZIP_64, b"") if size == MAX_32 else b""
            stored = (int.from_bytes(wide[:8], "little"), int.from_bytes(wide[8:16], "little"))
            agrees = (crc, *(stored if wide else (size, packed))) == (
                entry.crc, entry.size, entry.size,
            )  # fmt: skip
            after = end
        if not agrees or after > limit:
            self._fail(f"the sizes of {label} contradict the directory", entry.header)
        return Record(begin, end, entry.crc), after

    def _described_end(self, entry: _Entry, at: int, limit: int, label: str) -> int:
        """Where the descriptor after the data ends; torch's is wide behind the first 4 GiB too."""
        wide = entry.size >= MAX_32 or entry.header >= MAX_32
        layout = DESCRIPTOR_64 if wide else DESCRIPTOR
        found = self._part(layout, at, limit, f"descriptor of {label}")
        if found != (DESCRIPTOR_MAGIC, entry.crc, entry.size, entry.size):
            self._fail(f"the descriptor of {label} contradicts the directory", at)
        return at + layout.size
