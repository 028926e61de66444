"""Finding out what an APR file holds in one pass, without decoding or copying its data.

The format is in docs/apr.md. The scanner is a JSON parser for this one document: where the text of
a tensor's data begins it searches for the closing quote, so memory does not grow with the data.
Everything else is small, cut out and given to the strict parser.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, NoReturn

from entrenar_common.errors import EntrenarError, FormatError, UnsupportedError
from entrenar_common.text import escape_controls, nearest
from entrenar_core.io.dtypes import DTYPES, DType
from entrenar_core.io.safetensors_header import (
    MAX_RANK,
    MAX_TENSOR_BYTES,
    MAX_TENSORS,
    check_name,
)
from entrenar_core.io.strict_json import MAX_JSON_BYTES, parse_json
from entrenar_core.quant import BY_NUMBER, BlockFormat

FORMAT, VERSION = "apr", 1

DTYPES_BY_NAME: dict[str, DType | BlockFormat] = {
    **{dtype.name: dtype for dtype in DTYPES if dtype.numpy is not None},
    **{form.name: form for form in BY_NUMBER.values() if form.block > 1},
}
"""What `dtype` may be: the elements of arrays, and ggml's blocks."""

_FETCH_AGAIN = "the file is damaged or incomplete: fetch or write it again"
_TOP_KEYS = ("format", "version", "metadata", "tensors")
_TENSOR_KEYS = ("name", "dtype", "shape", "data")
_MAX_WORD_BYTES = 8192  # of a key, a name, a number or a shape as it is written
_SPACE = re.compile(rb"[ \t\r\n]*")
# possessive, and one turn of a loop for each backslash only: neither time nor memory can explode
_STRING = re.compile(rb'"[^"\\\x00-\x1f]*+(?:\\[^\x00-\x1f][^"\\\x00-\x1f]*+)*+"')
_NUMBER = re.compile(rb"[-+.0-9A-Za-z]+")
_LIST = re.compile(rb"\[[^\[\]{}\"]*+\]")
_BRACKET = re.compile(rb'[^"{}\[\]]*+("[^"\\]*+(?:\\.[^"\\]*+)*+"|[{}\[\]])', re.DOTALL)


@dataclass(frozen=True)
class APRTensor:
    """A tensor: its base64 is in bytes `begin` to `end` of the file.

    `dtype` is the type of its elements, or the BlockFormat that its `shape` of floats is stored in.
    """

    name: str
    dtype: DType | BlockFormat
    shape: tuple[int, ...]
    begin: int
    end: int

    @property
    def size(self) -> int:
        """The number of elements."""
        return prod(self.shape)

    @property
    def nbytes(self) -> int:
        """The bytes of its data, decoded."""
        return data_bytes(self.dtype, self.shape)


@dataclass(frozen=True)
class Document:
    """What an APR file says about itself."""

    tensors: dict[str, APRTensor]
    metadata: dict[str, Any]


def data_bytes(dtype: DType | BlockFormat, shape: tuple[int, ...]) -> int:
    """The bytes that a tensor takes; ShapeError where rows are not whole blocks."""
    if isinstance(dtype, DType):
        return prod(shape) * dtype.bits // 8
    return prod(shape[:-1]) * dtype.row_bytes(shape[-1] if shape else 1)


def scan(data: Any, path: Path) -> Document:
    """What is in the document `data` (bytes, or a mapped file), all of it checked but the base64.

    Raises FormatError (with the byte), UnsupportedError (an unknown version or type of elements).
    """
    return _Scanner(data, path).document()


class _Scanner:
    def __init__(self, data: Any, path: Path) -> None:
        self.data = data
        self.size = len(data)
        self.path = path
        self.at = 0
        self.tensors: dict[str, APRTensor] = {}
        self.seen: dict[str, Any] = {}

    def document(self) -> Document:
        self.object(
            "the document",
            _TOP_KEYS,
            {
                "format": self.format,
                "version": self.version,
                "metadata": self.metadata,
                "tensors": self.tensor_list,
            },
        )
        self.space()
        if self.at != self.size:
            self.fail(f"{self.size - self.at} unexpected bytes after the document")
        return Document(self.tensors, self.seen["metadata"])

    # --- the parts of a document

    def format(self) -> None:
        at = self.at
        if self.string() != FORMAT:
            self.fail(f"the format is not '{FORMAT}'", at)

    def version(self) -> None:
        at, found = self.at, self.cut(_NUMBER, "a number")
        if found != str(VERSION).encode():
            shown = found[:20].decode("latin1")
            raise UnsupportedError(
                f"{self.path}: version {shown} of the format is not known (at byte {at})",
                hint=f"write it again in version {VERSION}",
            )

    def metadata(self) -> None:
        begin, depth, end = self.at, 0, min(self.size, self.at + MAX_JSON_BYTES)
        self.expect(b"{")
        self.at = begin
        while depth or self.at == begin:
            found = _BRACKET.match(self.data, self.at, end)
            if found is None:
                self.fail(f"metadata without an end, or of more than {MAX_JSON_BYTES} bytes", begin)
            depth += {b"{": 1, b"[": 1, b"}": -1, b"]": -1}.get(found[1], 0)
            self.at = found.end()
        self.seen["metadata"] = self.parsed(begin)

    def tensor_list(self) -> None:
        self.expect(b"[")
        self.space()
        if self.next() == b"]":
            self.at += 1
            return
        while True:
            self.tensor()
            self.space()
            if self.next() != b",":
                break
            self.at += 1
            self.space()
        self.expect(b"]")

    def tensor(self) -> None:
        if len(self.tensors) == MAX_TENSORS:
            self.fail(f"more than {MAX_TENSORS} tensors")
        at, found = self.at, {}

        def keep(key: str, read: Callable[[], Any]) -> Callable[[], None]:
            return lambda: found.__setitem__(key, read())

        readers = {"name": self.string, "dtype": self.string, "shape": self.shape}
        readers["data"] = self.skipped_string
        read = {key: keep(key, reader) for key, reader in readers.items()}
        self.object("a tensor", _TENSOR_KEYS, read)
        tensor = self.checked(found["name"], found["dtype"], found["shape"], found["data"], at)
        self.tensors[tensor.name] = tensor

    def checked(
        self, name: str, dtype: str, shape: list[Any], place: tuple[int, int], at: int
    ) -> APRTensor:
        label = f"tensor '{escape_controls(name[:80])}'"
        if problem := check_name(name):
            self.fail(f"{label}: the name {problem}", at)
        if name in self.tensors:
            self.fail(f"{label} is there twice", at)
        if dtype not in DTYPES_BY_NAME:
            close = nearest(dtype, DTYPES_BY_NAME)
            raise UnsupportedError(
                f"{self.path}: {label}: unknown element type '{escape_controls(dtype[:80])}' "
                f"(at byte {at})",
                hint=f"did you mean {close}?" if close else f"known: {', '.join(DTYPES_BY_NAME)}",
            )
        # type(), since True is an int to isinstance
        if any(type(n) is not int or n < 0 for n in shape) or len(shape) > MAX_RANK:
            self.fail(f"{label}: shape is not a list of at most {MAX_RANK} whole numbers", at)
        if prod(n for n in shape if n) * 8 > MAX_TENSOR_BYTES:
            self.fail(f"{label}: shape {shape} is too large to exist", at)
        begin, end = place
        tensor = APRTensor(name, DTYPES_BY_NAME[dtype], tuple(shape), begin, end)
        try:
            wanted = -(-tensor.nbytes // 3) * 4
        except EntrenarError as error:  # a row that is not of whole blocks
            self.fail(f"{label}: {error}", at)
        if end - begin != wanted:
            self.fail(
                f"{label}: shape {shape} of {dtype} takes {wanted} characters of base64, data has "
                f"{end - begin}",
                begin,
            )
        return tensor

    # --- the parts of JSON

    def object(self, what: str, keys: tuple[str, ...], read: dict[str, Callable[[], None]]) -> None:
        """An object with exactly these keys, in any order; `read` reads the value of each."""
        seen: set[str] = set()
        self.expect(b"{")
        while True:
            self.space()
            at, key = self.at, self.string()
            if key not in keys or key in seen:
                problem = "duplicate" if key in seen else "unknown"
                self.fail(f"{problem} key '{escape_controls(key[:80])}' in {what}", at)
            seen.add(key)
            self.space()
            self.expect(b":")
            self.space()
            read[key]()
            self.space()
            if self.next() != b",":
                break
            self.at += 1
        self.expect(b"}")
        if missing := [key for key in keys if key not in seen]:
            self.fail(f"{what} has no '{missing[0]}'", self.at - 1)

    def shape(self) -> list[Any]:
        begin = self.at
        self.cut(_LIST, "a list of numbers")
        return self.parsed(begin)

    def string(self) -> str:
        begin, raw = self.at, self.cut(_STRING, "text in quotes")
        if raw.isascii() and b"\\" not in raw:
            return raw[1:-1].decode()  # as nearly all are
        return self.parsed(begin)

    def skipped_string(self) -> tuple[int, int]:
        """Where the inside of a string begins and ends that has no escapes."""
        self.expect(b'"')
        begin, end = self.at, self.data.find(b'"', self.at)
        if end < 0:
            self.fail("data without an end: the file is truncated", begin)
        self.at = end + 1
        return begin, end

    def cut(self, pattern: "re.Pattern[bytes]", what: str) -> bytes:
        found = pattern.match(self.data, self.at, min(self.size, self.at + _MAX_WORD_BYTES))
        if found is None:
            self.fail(f"{what} is wanted, of at most {_MAX_WORD_BYTES} bytes")
        self.at = found.end()
        return found[0]

    def parsed(self, begin: int) -> Any:
        """The strict parser's value of the bytes from `begin` to here."""
        raw = self.data[begin : self.at]
        try:
            return parse_json(raw.decode("utf-8"), self.path)
        except UnicodeDecodeError as error:
            self.fail("text that is not UTF-8", begin + error.start)
        except FormatError as error:
            raise FormatError(f"{error} (from byte {begin})", hint=error.hint) from None

    def space(self) -> None:
        found = _SPACE.match(self.data, self.at)
        assert found is not None  # it matches nothing too
        self.at = found.end()

    def next(self) -> bytes:
        return self.data[self.at : self.at + 1]

    def expect(self, character: bytes) -> None:
        if self.next() != character:
            self.fail(f"'{character.decode()}' is wanted")
        self.at += 1

    def fail(self, what: str, at: int | None = None) -> NoReturn:
        place = self.at if at is None else at
        end = ", where the file ends: it is truncated" if place >= self.size else ""
        raise FormatError(f"{self.path}: {what} (at byte {place}{end})", hint=_FETCH_AGAIN)
