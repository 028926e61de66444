"""Documents out of one file: text, lines, JSON lines and CSV, all strictly UTF-8.

A reader yields a Document, or a BadDocument that holds the error of a document that cannot be
read; what makes the whole file unusable (it changed, no such column) is raised.
"""

import csv
import json
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NoReturn, Protocol

from entrenar_common.errors import (
    EntrenarError,
    FormatError,
    IntegrityError,
    NotFoundError,
    StorageError,
)
from entrenar_common.text import escape_controls

MAX_TEXT_BYTES = 64 * 2**20
MAX_LINE_BYTES = 16 * 2**20
_BOM = b"\xef\xbb\xbf"
_SKIP = "repair the document, or set skip_bad of the dataset to leave such documents out"


class Source(Protocol):
    """The part of SourceFile that a reader needs."""

    @property
    def name(self) -> str: ...
    @property
    def path(self) -> Path: ...
    @property
    def size(self) -> int: ...
    @property
    def mtime_ns(self) -> int: ...


Value = str | int
"""What a field that is read beside the text may hold."""


@dataclass(frozen=True, slots=True)
class Document:
    """A text and the name it is known by; `source_bytes` of its file were read to get it. `beside`
    are the values of the other fields that were asked for, in their order."""

    name: str
    text: str
    source_bytes: int = 0
    beside: tuple[Value, ...] = ()

    @property
    def utf8_bytes(self) -> int:
        """The length of the text in UTF-8, which bits per byte are counted in."""
        return len(self.text) if self.text.isascii() else len(self.text.encode())


@dataclass(frozen=True, slots=True)
class BadDocument:
    """What could not be read, and why."""

    error: EntrenarError


Item = Document | BadDocument


def bad(message: str) -> BadDocument:
    return BadDocument(FormatError(message, hint=_SKIP))


@contextmanager
def opened(source: Source) -> Iterator[BinaryIO]:
    """The file, checked to be the one that was listed, before and after it is read."""
    try:
        with source.path.open("rb") as file:
            _check_unchanged(file, source)
            yield file
            _check_unchanged(file, source)
    except FileNotFoundError as error:
        raise NotFoundError(
            f"{source.name}: disappeared after it was listed", hint="run again"
        ) from error
    except OSError as error:
        raise StorageError(
            f"{source.name}: cannot be read: {error.strerror or error}",
            hint="check the permissions of the file and the disk",
        ) from error


def _check_unchanged(file: BinaryIO, source: Source) -> None:
    status = os.fstat(file.fileno())
    if (status.st_size, status.st_mtime_ns) != (source.size, source.mtime_ns):
        raise IntegrityError(
            f"{source.name}: changed while the dataset was being read",
            hint="run again when nothing writes to it",
        )


def decode(data: bytes, where: str) -> str | BadDocument:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        return bad(f"{where}: byte {error.start} is not UTF-8 ({error.reason})")


def read_text(source: Source, text_field: str, beside: Sequence[str] = ()) -> Iterator[Item]:
    """One document: the whole file. A byte order mark at its start is not part of the text."""
    del text_field
    _no_fields(source, beside)
    if source.size > MAX_TEXT_BYTES:
        problem = f"{source.size} bytes in one document, the limit is {MAX_TEXT_BYTES}"
        hint = "split it into documents: several files, or one JSON line for each"
        yield BadDocument(FormatError(f"{source.name}: {problem}", hint=hint))
        return
    with opened(source) as file:
        data = file.read(source.size + 1)
    text = decode(data, source.name)
    if isinstance(text, str):
        text = Document(source.name, text.removeprefix("\ufeff"), len(data))
    yield text


@dataclass(frozen=True, slots=True)
class _Line:
    number: int
    text: str
    size: int


def _lines(file: BinaryIO, name: str) -> Iterator[_Line | BadDocument]:
    """The lines of a file with their ends, the byte order mark left out."""
    number = 0
    while data := file.readline(MAX_LINE_BYTES + 1):
        number += 1
        size = len(data)
        if size > MAX_LINE_BYTES:
            while data and not data.endswith(b"\n"):
                data = file.readline(MAX_LINE_BYTES)
            yield bad(f"{name}:{number}: longer than {MAX_LINE_BYTES} bytes")
            continue
        text = decode(data.removeprefix(_BOM) if number == 1 else data, f"{name}:{number}")
        yield _Line(number, text, size) if isinstance(text, str) else text


def _no_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is not JSON")


class _Number(str):
    """A number as it was written: only one field is wanted, and huge integers parse slowly."""

    __slots__ = ()


def read_lines(source: Source, text_field: str, beside: Sequence[str] = ()) -> Iterator[Item]:
    """One document for each line that is not blank, without its end."""
    del text_field
    _no_fields(source, beside)
    with opened(source) as file:
        for line in _lines(file, source.name):
            if isinstance(line, BadDocument):
                yield line
            elif line.text.strip():
                yield Document(f"{source.name}:{line.number}", line.text.rstrip("\r\n"), line.size)


def _no_fields(source: Source, beside: Sequence[str]) -> None:
    if beside:
        raise FormatError(
            f"{source.name}: a text file has no field {beside[0]!a}",
            hint="give JSON lines, CSV or Parquet files",
        )


_DECODER = json.JSONDecoder(parse_int=_Number, parse_float=_Number, parse_constant=_no_constant)
_WHOLE = re.compile(r"-?\d{1,18}", re.ASCII)
_JSON_NAMES = {type(None): "null", bool: "a boolean", list: "a list", dict: "an object"}


def read_jsonl(source: Source, text_field: str, beside: Sequence[str] = ()) -> Iterator[Item]:
    """One document for each line that is a JSON object; blank lines and CRLF are accepted."""
    with opened(source) as file:
        for line in _lines(file, source.name):
            if isinstance(line, BadDocument):
                yield line
            elif line.text.strip():
                yield _json_document(line, source.name, text_field, beside)


def _json_document(line: _Line, name: str, text_field: str, beside: Sequence[str]) -> Item:
    where = f"{name}:{line.number}"
    try:
        value = _DECODER.decode(line.text)
    except json.JSONDecodeError as error:
        return bad(f"{where}: column {error.colno}: not valid JSON: {error.msg}")
    except (ValueError, RecursionError) as error:
        return bad(f"{where}: not valid JSON: {error}")
    if not isinstance(value, dict):
        return bad(f"{where}: not a JSON object")
    for field in (text_field, *beside):
        if field not in value:
            return missing_field(where, field, list(value))
    text = value[text_field]
    if type(text) is not str:
        kind = _JSON_NAMES.get(type(text), "a number")
        return bad(f"{where}: field {text_field!a} is {kind}, wanted text")
    if not text.isascii() and (problem := _surrogate(text)):
        return bad(f"{where}: {problem}")
    found: list[Value] = []
    for field in beside:
        other = _json_value(value[field])
        if other is None:
            kind = _JSON_NAMES.get(type(value[field]), "a number with a fraction")
            return bad(f"{where}: field {field!a} is {kind}, wanted text or a whole number")
        found.append(other)
    return Document(where, text, line.size, tuple(found))


def _json_value(value: object) -> Value | None:
    """A text or a whole number; None for anything else, and for text that has no UTF-8 form."""
    if type(value) is str:
        return None if _surrogate(value) else value
    if type(value) is _Number and _WHOLE.fullmatch(value):
        return int(value)
    return None


def missing_field(where: str, text_field: str, names: list[str]) -> BadDocument:
    shown = ", ".join(names[:20]) or "none"
    return BadDocument(
        FormatError(
            f"{where}: there is no field {text_field!a}",
            hint=f"set text_field of the dataset to one of: {escape_controls(shown)}",
        )
    )


def _surrogate(text: str) -> str | None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        return f"half of a surrogate pair at character {error.start} of the text"
    return None


def read_csv(source: Source, text_field: str, beside: Sequence[str] = ()) -> Iterator[Item]:
    """One document for each row below the header row; quoted fields may span lines. All values are
    text."""
    with opened(source) as file:
        table = _CsvTable(file, source.name)
        header = table.next_row()
        if isinstance(header, BadDocument):
            raise header.error
        for field in (text_field, *beside):
            if header is None or header.count(field) != 1:
                raise missing_field(f"{source.name}:1", field, header or []).error
        assert header is not None
        column, others = header.index(text_field), [header.index(field) for field in beside]
        while (row := table.next_row()) is not None:
            if isinstance(row, BadDocument):
                yield row
            elif len(row) != len(header):
                yield bad(f"{table.where}: {len(row)} fields, the header has {len(header)}")
            else:
                values = tuple(row[i] for i in others)
                yield Document(table.where, row[column], table.taken(), values)


class _CsvTable:
    """Rows of a CSV file; knows the line where the last one began."""

    def __init__(self, file: BinaryIO, name: str) -> None:
        self._lines = _lines(file, name)
        self._name = name
        self._bad: BadDocument | None = None
        self._bytes = 0
        self._line = 0
        self.where = f"{name}:1"
        self._reader = csv.reader(self._texts(), strict=True)

    def _texts(self) -> Iterator[str]:
        for line in self._lines:
            if isinstance(line, BadDocument):
                self._bad = line
                self._line += 1
                yield "\n"  # an empty row, in whose place the error is reported
            else:
                self._bytes += line.size
                self._line = line.number
                yield line.text

    def taken(self) -> int:
        size, self._bytes = self._bytes, 0
        return size

    def next_row(self) -> list[str] | BadDocument | None:
        while True:
            self.where = f"{self._name}:{self._line + 1}"
            # The limit belongs to the process and is 128 KiB: raise it for this row only.
            before = csv.field_size_limit(MAX_LINE_BYTES)
            try:
                row = next(self._reader, None)
            except csv.Error as error:
                return bad(f"{self.where}: not valid CSV: {error}")
            finally:
                csv.field_size_limit(before)
            if self._bad is not None:
                problem, self._bad = self._bad, None
                return problem
            if row is None or row:
                return row
