"""The metadata of a weights' file as plain values, in which arrays are only counted."""

from collections.abc import Mapping
from typing import Any

_WORDS = {"text": "texts", "bool": "flags"}


def plain(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """All keys, with "151936 texts" for an array: its elements are not read."""
    return {key: _array(metadata, key) or metadata[key] for key in metadata}


def scalar(metadata: Mapping[str, Any], key: str) -> Any:
    """One value; None for a key that is not there, and for an array."""
    return None if key not in metadata or _array(metadata, key) else metadata[key]


def whole(metadata: Mapping[str, Any], key: str) -> int | None:
    """A whole number; None for anything else, such as one for each block."""
    value = scalar(metadata, key)
    return value if type(value) is int else None


def text(metadata: Mapping[str, Any], key: str) -> str | None:
    """A text; None for anything else."""
    value = scalar(metadata, key)
    return value if isinstance(value, str) else None


def texts(metadata: Mapping[str, Any], key: str, *, most: int) -> tuple[str, ...]:
    """An array of texts; () where there is none, or more than `most`."""
    count = length(metadata, key)
    value = metadata[key] if count is not None and count <= most else ()
    return value if isinstance(value, tuple) else ()


def length(metadata: Mapping[str, Any], key: str) -> int | None:
    """The number of elements of an array; None where there is none."""
    kind = _kind(metadata, key)
    return None if kind is None else kind[1]


def _array(metadata: Mapping[str, Any], key: str) -> str | None:
    """An array in words; None for a value of any other type."""
    kind, count = _kind(metadata, key) or (None, None)
    return None if count is None else f"{count} {_WORDS.get(str(kind), 'numbers')}"


def _kind(metadata: Mapping[str, Any], key: str) -> tuple[Any, int | None] | None:
    """The type of a value of an `io.gguf.Metadata`, and the number of elements of an array; None
    for other mappings, in which no value is long."""
    kind = getattr(metadata, "kind", None)
    return kind(key) if kind is not None and key in metadata else None
