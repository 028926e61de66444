"""Metadata values of GGUF files: each has a type, which readers check, so it is always explicit.

    metadata = {"general.architecture": text("llama"), "llama.block_count": u32(16)}

Types and bytes: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md.
"""

import operator
import re
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum
from typing import NoReturn

import numpy as np

from entrenar_common.errors import ConfigError
from entrenar_common.text import escape_controls

# in keys and names; a reader written in C sees one end at its first NUL, and would find another
CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f]")

MAX_KEY_BYTES = 2**16 - 1
MAX_TEXT_BYTES = 64 * 2**20
MAX_ELEMENTS = 2**30
"""llama.cpp's limit for an array."""


class ValueType(IntEnum):
    """The types of metadata values, by their numbers in files."""

    U8 = 0
    I8 = 1
    U16 = 2
    I16 = 3
    U32 = 4
    I32 = 5
    F32 = 6
    BOOL = 7
    TEXT = 8
    ARRAY = 9
    U64 = 10
    I64 = 11
    F64 = 12

    def __str__(self) -> str:
        return self.name.lower()


INTEGERS = frozenset(
    {
        ValueType.U8,
        ValueType.I8,
        ValueType.U16,
        ValueType.I16,
        ValueType.U32,
        ValueType.I32,
        ValueType.U64,
        ValueType.I64,
    }
)
FLOATS = frozenset({ValueType.F32, ValueType.F64})

_CODES = {
    ValueType.U8: "<B",
    ValueType.I8: "<b",
    ValueType.U16: "<H",
    ValueType.I16: "<h",
    ValueType.U32: "<I",
    ValueType.I32: "<i",
    ValueType.F32: "<f",
    ValueType.BOOL: "<?",
    ValueType.U64: "<Q",
    ValueType.I64: "<q",
    ValueType.F64: "<d",
}  # to struct and to numpy these mean the same

DTYPES: dict[ValueType, np.dtype] = {kind: np.dtype(code) for kind, code in _CODES.items()}
"""How numbers of a type are stored; text and arrays are not here."""

PACK: dict[ValueType, struct.Struct] = {kind: struct.Struct(c) for kind, c in _CODES.items()}

Content = int | float | bool | str | np.ndarray | tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Value:
    """One value: `type` is that of the elements where `content` is an array or a tuple of texts."""

    type: ValueType
    content: Content

    @property
    def is_array(self) -> bool:
        """Whether it is an array in the file."""
        return isinstance(self.content, np.ndarray | tuple)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Value):
            return NotImplemented
        return _encoded(self) == _encoded(other)  # bytes, so that NaN equals itself

    def __hash__(self) -> int:
        return hash(_encoded(self))


def _encoded(value: Value) -> bytes:
    return b"".join(encode(value))


def scalar(kind: ValueType, content: float) -> Value:
    """A number of this type; ConfigError where it does not fit.

    >>> scalar(ValueType.U64, 2**40).content
    1099511627776
    """
    if kind not in DTYPES:
        _refuse(f"{kind} is not a type of numbers")
    if (kind is ValueType.BOOL) != isinstance(content, bool | np.bool_):
        _refuse(f"{content!r} is not of type {kind}")
    try:
        if kind in INTEGERS:
            # a float is not taken for a whole number: the TypeError is what is asked for
            content = operator.index(content)  # pyright: ignore[reportArgumentType]
        packed = PACK[kind].pack(content)
    except (struct.error, OverflowError, TypeError):
        _refuse(f"{content!r} does not fit in {kind}")
    return Value(kind, PACK[kind].unpack(packed)[0])


def u32(content: int) -> Value:
    """What llama.cpp expects of most whole numbers: counts, sizes, token numbers."""
    return scalar(ValueType.U32, content)


def i32(content: int) -> Value:
    """A signed whole number."""
    return scalar(ValueType.I32, content)


def f32(content: float) -> Value:
    """What llama.cpp expects of numbers that are not whole; rounded to float32."""
    return scalar(ValueType.F32, content)


def flag(content: bool) -> Value:
    """True or false."""
    return scalar(ValueType.BOOL, content)


def text(content: str) -> Value:
    """Text; ConfigError where it is longer than 64 MiB or no valid Unicode."""
    _text_bytes(content)
    return Value(ValueType.TEXT, content)


def texts(contents: Iterable[str]) -> Value:
    """An array of texts."""
    found = tuple(contents)
    for one in found:
        _text_bytes(one)
    return Value(ValueType.TEXT, found)


def array(kind: ValueType, contents: Iterable[float] | np.ndarray) -> Value:
    """An array of numbers of this type; ConfigError where one does not fit.

    >>> array(ValueType.I32, [1, 2]).content
    array([1, 2], dtype=int32)
    """
    if kind not in DTYPES:
        _refuse(f"{kind} is not a type of numbers")
    if isinstance(contents, np.ndarray):
        found = _checked(kind, contents)
    else:  # numpy would make floats of large integers
        found = np.array([scalar(kind, one).content for one in contents], DTYPES[kind])
    found.flags.writeable = False
    return Value(kind, found)


def _checked(kind: ValueType, found: np.ndarray) -> np.ndarray:
    """A copy as this type; ConfigError where it is of another kind, or a number does not fit."""
    if found.ndim != 1:
        _refuse(f"an array of shape {list(found.shape)}: metadata has flat ones only")
    wanted = "b" if kind is ValueType.BOOL else "iuf" if kind in FLOATS else "iu"
    if found.dtype.kind not in wanted:
        _refuse(f"an array of {found.dtype} is not one of {kind}")
    if kind in INTEGERS and found.size:
        limits = np.iinfo(DTYPES[kind])
        if int(found.min()) < limits.min or int(found.max()) > limits.max:
            _refuse(f"{int(found.min())} to {int(found.max())} do not fit in {kind}")
    return found.astype(DTYPES[kind])


def _refuse(what: str) -> NoReturn:
    raise ConfigError(
        f"a metadata value: {what}", hint="choose a type that holds it; see the format's list"
    )


def _text_bytes(content: str) -> bytes:
    if not isinstance(content, str):
        _refuse(f"{content!r:.80} is not text")
    try:
        raw = content.encode()
    except UnicodeEncodeError:
        _refuse(f"'{escape_controls(content[:80])}' has half a surrogate pair")
    if len(raw) > MAX_TEXT_BYTES:
        _refuse(f"a text of {len(raw)} bytes, more than the limit of {MAX_TEXT_BYTES}")
    return raw


def check_key(key: str) -> str | None:
    """What is wrong with a metadata key, or None."""
    if not key:
        return "is empty"
    if len(key.encode()) > MAX_KEY_BYTES:
        return f"is longer than {MAX_KEY_BYTES} bytes"
    return "has control characters" if CONTROLS.search(key) else None


def encode(value: Value) -> list[bytes]:
    """The bytes of type and value as a file has them, in pieces."""
    content = value.content
    if isinstance(content, str):
        return [_u32(value.type), encode_text(content)]
    if isinstance(content, tuple):
        head = _u32(ValueType.ARRAY) + _u32(value.type) + len(content).to_bytes(8, "little")
        return [head, *map(encode_text, content)]
    if isinstance(content, np.ndarray):
        head = _u32(ValueType.ARRAY) + _u32(value.type) + len(content).to_bytes(8, "little")
        return [head, content.astype(DTYPES[value.type], copy=False).tobytes()]
    return [_u32(value.type), PACK[value.type].pack(content)]


def encode_text(content: str) -> bytes:
    """Length and bytes of a text."""
    raw = _text_bytes(content)
    return len(raw).to_bytes(8, "little") + raw


def _u32(number: int) -> bytes:
    return number.to_bytes(4, "little")
