"""The metadata pairs in a GGUF header: checked one after the other; long arrays are not decoded."""

from dataclasses import dataclass

import numpy as np

from entrenar_common.text import escape_controls
from entrenar_core.io.gguf_cursor import Cursor
from entrenar_core.io.gguf_strings import LENGTH_BYTES, string_starts
from entrenar_core.io.gguf_values import (
    DTYPES,
    MAX_ELEMENTS,
    MAX_KEY_BYTES,
    MAX_TEXT_BYTES,
    PACK,
    Value,
    ValueType,
    check_key,
)

MAX_KEYS = 2**16
MAX_METADATA_BYTES = 512 * 2**20
MAX_STRINGS = 4 * 2**20
"""In all arrays of a file: eight times a vocabulary of 256,000 tokens with as many merges."""


@dataclass(frozen=True, eq=False)
class StoredArray:
    """An array that was checked and not decoded yet: `count` elements from byte `begin` on.

    `starts` are the places of strings' lengths, and the end of the last one; None for numbers.
    """

    type: ValueType
    count: int
    begin: int
    starts: np.ndarray | None


def parse_pairs(cursor: Cursor, count: int) -> dict[str, Value | StoredArray]:
    found: dict[str, Value | StoredArray] = {}
    strings_left = MAX_STRINGS
    for number in range(count):
        begin = cursor.place
        key = cursor.text(f"metadata key {number}", MAX_KEY_BYTES)
        label = f"metadata key '{escape_controls(key[:80])}'"
        if problem := check_key(key):
            cursor.fail(f"{label} (at byte {begin}) {problem}")
        if key in found:
            cursor.fail(f"duplicate {label} (at byte {begin})")
        value = _value(cursor, label, strings_left)
        if isinstance(value, StoredArray) and value.starts is not None:
            strings_left -= value.count
        if cursor.place > MAX_METADATA_BYTES:
            cursor.fail(f"the metadata is longer than the limit of {MAX_METADATA_BYTES} bytes")
        found[key] = value
    return found


def _value(cursor: Cursor, label: str, strings_left: int) -> Value | StoredArray:
    kind = _type(cursor, label)
    if kind is ValueType.TEXT:
        return Value(kind, cursor.text(f"the text of {label}", MAX_TEXT_BYTES))
    if kind is ValueType.ARRAY:
        return _array(cursor, label, strings_left)
    place = cursor.take(PACK[kind].size, f"the value of {label}")
    if kind is ValueType.BOOL and cursor.data[place] > 1:
        cursor.fail(f"{label}: a flag of {cursor.data[place]} (at byte {place}), not 0 or 1")
    return Value(kind, PACK[kind].unpack_from(cursor.data, place)[0])


def _type(cursor: Cursor, label: str) -> ValueType:
    number = cursor.u32(f"the type of {label}")
    try:
        return ValueType(number)
    except ValueError:
        cursor.fail(f"{label}: unknown value type {number} (at byte {cursor.place - 4})")


def _array(cursor: Cursor, label: str, strings_left: int) -> StoredArray:
    kind = _type(cursor, label)
    count = cursor.u64(f"the length of {label}")
    least = LENGTH_BYTES if kind is ValueType.TEXT else 0
    if kind is ValueType.ARRAY:
        cursor.fail(f"{label}: an array of arrays (at byte {cursor.place - 12})")
    most = strings_left if kind is ValueType.TEXT else MAX_ELEMENTS
    if count > most:
        cursor.fail(f"{label}: {count} elements (at byte {cursor.place - 8}), more than {most}")
    size = count * (least or DTYPES[kind].itemsize)
    begin = cursor.take(size, f"{label}: an array of {count} elements")
    if kind is ValueType.TEXT:
        return StoredArray(kind, count, begin, _strings(cursor, label, begin, count))
    if kind is ValueType.BOOL and count:
        flags = np.frombuffer(cursor.data, np.uint8, count, begin)
        if flags.max() > 1:
            place = begin + int(np.argmax(flags > 1))
            cursor.fail(f"{label}: a flag of {cursor.data[place]} (at byte {place}), not 0 or 1")
    return StoredArray(kind, count, begin, None)


def _strings(cursor: Cursor, label: str, begin: int, count: int) -> np.ndarray:
    starts = string_starts(cursor.data, begin, cursor.here, count=count, max_bytes=MAX_TEXT_BYTES)
    place = int(starts[-1])
    if len(starts) <= count:
        _need_text(cursor, place)
        cursor.fail(
            f"{label}: text {len(starts) - 1} of {count} (at byte {place}) runs past the end of "
            f"the file or is longer than the limit of {MAX_TEXT_BYTES} bytes"
        )
    cursor.place = place
    return starts


def _need_text(cursor: Cursor, place: int) -> None:
    """Raises MoreNeeded where the text at `place` is one that fits, and is not all here."""
    left = cursor.end - place - LENGTH_BYTES
    if left < 0:
        return
    cursor.need(place + LENGTH_BYTES)
    length = int.from_bytes(cursor.data[place : place + LENGTH_BYTES], "little")
    if length <= min(left, MAX_TEXT_BYTES):
        cursor.need(place + LENGTH_BYTES + length)
