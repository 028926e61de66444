"""Documents out of one file: text, JSON lines and CSV, all strictly UTF-8.

A reader yields a Document, or a BadDocument that holds the error of a document that cannot be
read; what makes the whole file unusable (it changed, no such column) is raised.
"""

import csv
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NoReturn, Protocol

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
    """The part of a dataset's file that a reader needs.

    `place` is what a row of it is called, counted from 1. `opened` is the file, and makes errors of
    reading it ours.
    """

    @property
    def name(self) -> str: ...
    @property
    def size(self) -> int: ...
    def place(self, row: int) -> str: ...
    def opened(self) -> AbstractContextManager[BinaryIO]: ...


Value = str | int | float
"""What a field that is read beside a text may hold; true and false are whole numbers to Python."""


@dataclass(frozen=True, slots=True)
class Document:
    """A text and the name it is known by; `source_bytes` of its file were read to get it.

    `answers` are the characters, from and up to, that a model is to learn to write; None for all.
    `beside` are values of other fields, in the order in which they were asked for.
    """

    name: str
    text: str
    source_bytes: int = 0
    answers: tuple[tuple[int, int], ...] | None = None
    beside: tuple[Value, ...] = ()

    @property
    def utf8_bytes(self) -> int:
        """The length in UTF-8 of the text, or of its answers: bits per byte are counted in it."""
        text = self.text
        if self.answers is not None:
            text = "".join(text[start:end] for start, end in self.answers)
        return len(text) if text.isascii() else len(text.encode())


@dataclass(frozen=True, slots=True)
class Row:
    """Some fields of a row, as the values that JSON has; name and `source_bytes` as above."""

    name: str
    values: dict[str, Any]
    source_bytes: int


@dataclass(frozen=True, slots=True)
class BadDocument:
    """What could not be read, and why."""

    error: EntrenarError


Item = Document | BadDocument
RowItem = Row | BadDocument


def bad(message: str) -> BadDocument:
    return BadDocument(FormatError(message, hint=_SKIP))


@contextmanager
def opened_file(path: Path, name: str, state: tuple[int, int]) -> Iterator[BinaryIO]:
    """A file on this machine, called `name`, checked to be as it was when it was listed, before and
    after it is read: `state` has its bytes and time of change, as `file_state` does."""
    try:
        with path.open("rb") as file:
            _check_unchanged(file, name, state)
            yield file
            _check_unchanged(file, name, state)
    except FileNotFoundError as error:
        raise NotFoundError(f"{name}: disappeared after it was listed", hint="run again") from error
    except OSError as error:
        raise StorageError(
            f"{name}: cannot be read: {error.strerror or error}",
            hint="check the permissions of the file and the disk",
        ) from error


def file_state(status: os.stat_result) -> tuple[int, int]:
    return status.st_size, status.st_mtime_ns


def _check_unchanged(file: BinaryIO, name: str, state: tuple[int, int]) -> None:
    if file_state(os.fstat(file.fileno())) != state:
        raise IntegrityError(
            f"{name}: changed while the dataset was being read",
            hint="run again when nothing writes to it",
        )


def decode(data: bytes, where: str) -> str | BadDocument:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        return bad(f"{where}: byte {error.start} is not UTF-8 ({error.reason})")


def read_text(source: Source, text_field: str) -> Iterator[Item]:
    """One document: the whole file. A byte order mark at its start is not part of the text."""
    del text_field
    if source.size > MAX_TEXT_BYTES:
        problem = f"{source.size} bytes in one document, the limit is {MAX_TEXT_BYTES}"
        hint = "split it into documents: several files, or one JSON line for each"
        yield BadDocument(FormatError(f"{source.name}: {problem}", hint=hint))
        return
    with source.opened() as file:
        data = file.read(source.size + 1)
    text = decode(data, source.name)
    if isinstance(text, str):
        text = Document(source.name, text.removeprefix("\ufeff"), len(data))
    yield text


def read_lines(source: Source, text_field: str) -> Iterator[Item]:
    """One document for each line that is not blank, without its end."""
    del text_field
    with source.opened() as file:
        for line in _lines(file, source):
            if isinstance(line, BadDocument):
                yield line
            elif line.text.strip():
                text = line.text.rstrip("\r\n")
                yield Document(source.place(line.number), text, line.size)


@dataclass(frozen=True, slots=True)
class _Line:
    number: int
    text: str
    size: int


def _lines(file: BinaryIO, source: Source) -> Iterator[_Line | BadDocument]:
    """The lines of a file with their ends, the byte order mark left out."""
    number = 0
    while data := file.readline(MAX_LINE_BYTES + 1):
        number += 1
        size = len(data)
        if size > MAX_LINE_BYTES:
            while data and not data.endswith(b"\n"):
                data = file.readline(MAX_LINE_BYTES)
            yield bad(f"{source.place(number)}: longer than {MAX_LINE_BYTES} bytes")
            continue
        text = decode(data.removeprefix(_BOM) if number == 1 else data, source.place(number))
        yield _Line(number, text, size) if isinstance(text, str) else text


def _no_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is not JSON")


def document_of(row: Row, text: str, answers: tuple[tuple[int, int], ...] | None) -> Item:
    """The document that was made of a row; a bad one where its text has no UTF-8 form."""
    if not text.isascii() and (problem := surrogate(text)):
        return bad(f"{row.name}: {problem}")
    return Document(row.name, text, row.source_bytes, answers)


class _Number(str):
    """A number as it was written: only one field is wanted, and huge integers parse slowly."""

    __slots__ = ()


_DECODER = json.JSONDecoder(parse_int=_Number, parse_float=_Number, parse_constant=_no_constant)
_WHOLE = json.JSONDecoder(parse_constant=_no_constant)
_JSON_NAMES = {
    type(None): "null", bool: "a boolean", list: "a list", dict: "an object", str: "text",
}  # fmt: skip


def kind_of(value: Any) -> str:
    """What a value of JSON is, in words."""
    return _JSON_NAMES.get(type(value), "a number")


def read_jsonl(source: Source, text_field: str) -> Iterator[Item]:
    """One document for each line that is a JSON object; blank lines and CRLF are accepted."""
    with source.opened() as file:
        for line in _lines(file, source):
            if isinstance(line, BadDocument):
                yield line
            elif line.text.strip():
                yield _json_document(line, source.place(line.number), text_field)


def jsonl_rows(source: Source, fields: Mapping[str, str]) -> Iterator[RowItem]:
    """The `fields` of each line, by the settings that name them."""
    with source.opened() as file:
        for line in _lines(file, source):
            if isinstance(line, BadDocument):
                yield line
            elif line.text.strip():
                yield _json_row(line, source.place(line.number), fields)


def jsonl_fields(source: Source) -> list[str]:
    """The fields of the first line that is a JSON object."""
    with source.opened() as file:
        for line in _lines(file, source):
            if not isinstance(line, BadDocument) and line.text.strip():
                found = _json_object(line, source.place(line.number), {}, _WHOLE)
                if not isinstance(found, BadDocument):
                    return list(found)
    return []


def _json_document(line: _Line, where: str, text_field: str) -> Item:
    value = _json_object(line, where, {"text_field": text_field}, _DECODER)
    if isinstance(value, BadDocument):
        return value
    text = value[text_field]
    if type(text) is not str:
        return bad(f"{where}: field {text_field!a} is {kind_of(text)}, wanted text")
    if not text.isascii() and (problem := surrogate(text)):
        return bad(f"{where}: {problem}")
    return Document(where, text, line.size)


def _json_row(line: _Line, where: str, fields: Mapping[str, str]) -> RowItem:
    value = _json_object(line, where, fields, _WHOLE)
    if isinstance(value, BadDocument):
        return value
    return Row(where, {field: value[field] for field in fields.values()}, line.size)


def _json_object(
    line: _Line, where: str, fields: Mapping[str, str], decoder: json.JSONDecoder
) -> dict[str, Any] | BadDocument:
    try:
        value = decoder.decode(line.text)
    except json.JSONDecodeError as error:
        return bad(f"{where}: column {error.colno}: not valid JSON: {error.msg}")
    except (ValueError, RecursionError) as error:
        return bad(f"{where}: not valid JSON: {error}")
    if not isinstance(value, dict):
        return bad(f"{where}: not a JSON object")
    for setting, field in fields.items():
        if field not in value:
            return missing_field(where, field, list(value), setting)
    return value


def missing_field(
    where: str, field: str, names: list[str], setting: str = "text_field"
) -> BadDocument:
    shown = ", ".join(names[:20]) or "none"
    return BadDocument(
        FormatError(
            f"{where}: there is no field {field!a}",
            hint=f"set {setting} of the dataset to one of: {escape_controls(shown)}",
        )
    )


def surrogate(text: str) -> str | None:
    """What is wrong with a text that has no UTF-8 form."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        return f"half of a surrogate pair at character {error.start} of the text"
    return None


def read_csv(source: Source, text_field: str) -> Iterator[Item]:
    """One document for each row below the header row; quoted fields may span lines."""
    for row in csv_rows(source, {"text_field": text_field}):
        if isinstance(row, BadDocument):
            yield row
        else:
            yield Document(row.name, row.values[text_field], row.source_bytes)


def csv_fields(source: Source) -> list[str]:
    """The columns of a table that have a name of their own."""
    with source.opened() as file:
        header = _CsvTable(file, source).next_row()
    if isinstance(header, BadDocument):
        raise header.error
    return [name for name in header or [] if (header or []).count(name) == 1]


def csv_rows(source: Source, fields: Mapping[str, str]) -> Iterator[RowItem]:
    """The `fields` of each row, by the settings that name them."""
    with source.opened() as file:
        table = _CsvTable(file, source)
        header = table.next_row()
        if isinstance(header, BadDocument):
            raise header.error
        for setting, field in fields.items():
            if header is None or header.count(field) != 1:
                raise missing_field(source.place(1), field, header or [], setting).error
        assert header is not None
        columns = {field: header.index(field) for field in fields.values()}
        while (row := table.next_row()) is not None:
            if isinstance(row, BadDocument):
                yield row
            elif len(row) != len(header):
                yield bad(f"{table.where}: {len(row)} fields, the header has {len(header)}")
            else:
                values = {field: row[column] for field, column in columns.items()}
                yield Row(table.where, values, table.taken())


class _CsvTable:
    """Rows of a CSV file; knows the line where the last one began."""

    def __init__(self, file: BinaryIO, source: Source) -> None:
        self._lines = _lines(file, source)
        self._source = source
        self._bad: BadDocument | None = None
        self._bytes = 0
        self._line = 0
        self.where = source.place(1)
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
            self.where = self._source.place(self._line + 1)
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
