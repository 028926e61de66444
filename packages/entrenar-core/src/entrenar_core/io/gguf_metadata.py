"""The metadata of a GGUF file: keys with typed values, of which long arrays are decoded when asked.

Readers that take a value for what it is not have been attacked through it, so there is a method for
each kind of value, which checks type and number of elements.
"""

from collections.abc import Iterator, Mapping, Set
from itertools import pairwise
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from entrenar_common.errors import FormatError
from entrenar_common.text import escape_controls, nearest
from entrenar_core.io.gguf_cursor import decode_text
from entrenar_core.io.gguf_pairs import StoredArray
from entrenar_core.io.gguf_strings import LENGTH_BYTES
from entrenar_core.io.gguf_values import DTYPES, FLOATS, INTEGERS, Content, Value, ValueType


class Metadata(Mapping[str, Content]):
    """Keys and values in the file's order.

    A value is an int, float, bool or str, a read-only array of numbers, or a tuple of texts.
    `raw` are the file's bytes up to the tensor data, which arrays are decoded from.
    """

    def __init__(self, entries: dict[str, Value | StoredArray], raw: bytes, path: Path) -> None:
        self._entries = entries
        self._decoded: dict[str, Value] = {}
        self._raw = raw
        self._path = path

    def __getitem__(self, key: str) -> Content:
        if key not in self._entries:
            raise KeyError(key)
        return self.value(key).content

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __contains__(self, key: object) -> bool:  # the inherited one would decode the value
        return key in self._entries

    def __len__(self) -> int:
        return len(self._entries)

    def without(self, keys: Set[str]) -> "Metadata":
        """The same without these keys."""
        entries = {key: entry for key, entry in self._entries.items() if key not in keys}
        return Metadata(entries, self._raw, self._path)

    def value(self, key: str) -> Value:
        """The value with its type, as `write_gguf` takes it; FormatError when there is no such key.

        Raises FormatError too where texts of an array are not UTF-8.
        """
        entry = self._entry(key)
        if isinstance(entry, Value):
            return entry
        if key not in self._decoded:
            content = self._numbers(entry) if entry.starts is None else self._texts(key, entry)
            self._decoded[key] = Value(entry.type, content)
        return self._decoded[key]

    def _entry(self, key: str) -> Value | StoredArray:
        try:
            return self._entries[key]
        except KeyError:
            close = nearest(key, self._entries)
            raise FormatError(
                f"{self._path}: there is no metadata key '{escape_controls(key)}'",
                hint=f"the nearest is '{escape_controls(close)}'; convert the model again"
                if close
                else "convert the model again",
            ) from None

    def _numbers(self, entry: StoredArray) -> np.ndarray:
        found = np.frombuffer(self._raw, DTYPES[entry.type], entry.count, entry.begin).copy()
        found.flags.writeable = False  # a copy, since arrays begin anywhere
        return found

    def _texts(self, key: str, entry: StoredArray) -> tuple[str, ...]:
        assert entry.starts is not None
        raw, places = self._raw, entry.starts.tolist()
        bounds = [(p + LENGTH_BYTES, q) for p, q in pairwise(places)]
        try:
            return tuple([raw[begin:end].decode() for begin, end in bounds])
        except UnicodeDecodeError:  # again, for the message
            what = f"of metadata key '{escape_controls(key)}'"
            return tuple(
                decode_text(raw[begin:end], begin, f"text {number} {what}", self._path)
                for number, (begin, end) in enumerate(bounds)
            )

    def kind(self, key: str) -> tuple[ValueType, int | None]:
        """The type of a value, and how many elements it has; None where it is no array."""
        entry = self._entry(key)
        if isinstance(entry, StoredArray):
            return entry.type, entry.count
        return entry.type, None

    def text(self, key: str, default: str | None = None) -> str:
        """A text.

        This and the methods below raise FormatError where the value has another type, and where it
        is missing and there is no default.
        """
        return self._scalar(key, {ValueType.TEXT}, default)

    def integer(self, key: str, default: int | None = None) -> int:
        """A whole number, of any of the eight types."""
        return self._scalar(key, INTEGERS, default)

    def number(self, key: str, default: float | None = None) -> float:
        """A number of type f32 or f64."""
        return self._scalar(key, FLOATS, default)

    def flag(self, key: str, default: bool | None = None) -> bool:
        """True or false."""
        return self._scalar(key, {ValueType.BOOL}, default)

    def _scalar(self, key: str, kinds: Set[ValueType], default: Content | None) -> Any:
        """Of the class that reading makes of all of `kinds`."""
        if key not in self._entries and default is not None:
            return default
        kind, count = self.kind(key)
        if kind not in kinds or count is not None:
            self._refuse(key, " or ".join(map(str, sorted(kinds))))
        return self.value(key).content

    def strings(
        self, key: str, default: tuple[str, ...] | None = None, *, count: int | None = None
    ) -> tuple[str, ...]:
        """An array of texts, of `count` where that is given."""
        if key not in self._entries and default is not None:
            return default
        self._check_array(key, ValueType.TEXT, count)
        content = self.value(key).content
        assert isinstance(content, tuple)
        return content

    def array(
        self,
        key: str,
        element: ValueType,
        default: np.ndarray | None = None,
        *,
        count: int | None = None,
    ) -> np.ndarray:
        """An array of numbers of exactly this type, read-only; of `count` where that is given."""
        if key not in self._entries and default is not None:
            return default
        self._check_array(key, element, count)
        content = self.value(key).content
        assert isinstance(content, np.ndarray)
        return content

    def _check_array(self, key: str, element: ValueType, count: int | None) -> None:
        kind, found = self.kind(key)
        if kind is not element or found is None:
            self._refuse(key, f"an array of {element}")
        if count is not None and found != count:
            self._refuse(key, f"an array of {count} elements")

    def _refuse(self, key: str, wanted: str) -> NoReturn:
        kind, count = self.kind(key)
        found = str(kind) if count is None else f"an array of {count} elements of {kind}"
        raise FormatError(
            f"{self._path}: metadata key '{escape_controls(key)}' is {found}, not {wanted}",
            hint="the file does not follow the format's conventions: convert the model again",
        )
