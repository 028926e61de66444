"""Records as JSON has them: a dataclass out of the data of a file."""

import dataclasses
import math
import types
import typing
from collections.abc import Mapping
from typing import Any

from entrenar_common.errors import FormatError, UnsupportedError

__all__ = ["record_from_json"]

T = typing.TypeVar("T")


def record_from_json(kind: type[T], data: Any, known: int, name: str) -> T:
    """The report of the class `kind`, whose version is `known`, that is the JSON `data` of the file
    `name`; where a number was null, it is NaN.

    A dataclass of plain values, of other dataclasses, and of tuples and dicts of both. Raises
    UnsupportedError for a report of another version and FormatError for what is no report.
    """
    version = data.get("schema_version") if isinstance(data, dict) else None
    if isinstance(version, int) and version != known:
        raise UnsupportedError(
            f"{name}: a report of version {version}; version {known} is understood",
            hint="use the release of entrenar that wrote it",
        )
    try:
        return _decode(kind, data, "report")
    except (TypeError, ValueError, OverflowError) as error:
        raise FormatError(
            f"{name}: not a report of a run: {error}",
            hint="name the report.json of a finished run",
        ) from error


def _decode(kind: Any, value: Any, where: str) -> Any:
    """`value` from JSON as the type `kind`; TypeError or ValueError when it is not one."""
    if dataclasses.is_dataclass(kind):
        return _decode_record(kind, value, where)
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if origin is types.UnionType:  # X | None is the only union in the records
        return None if value is None else _decode(args[0], value, where)
    if origin is tuple:
        return _decode_tuple(args, value, where)
    if origin is dict:
        items = _expect(dict, value, where).items()
        return {key: _decode(args[1], item, f"{where}.{key}") for key, item in items}
    if kind is float:
        return math.nan if value is None else float(_expect((int, float), value, where))
    return _expect(kind, value, where)


def _decode_record(kind: Any, value: Any, where: str) -> Any:
    data: Mapping[str, Any] = _expect(dict, value, where)
    names = {field.name for field in dataclasses.fields(kind)}
    hints = {name: hint for name, hint in typing.get_type_hints(kind).items() if name in names}
    # what may be None is not in reports from before there was such a thing
    optional = {field.name for field in dataclasses.fields(kind) if field.default is None}
    if missing := sorted(hints.keys() - data.keys() - optional):
        raise ValueError(f"{where} lacks {', '.join(missing)}")
    if data.keys() - hints.keys():
        raise ValueError(f"{where} has unknown keys")
    # The names are those of our own record, never the file's.
    return kind(
        **{
            name: _decode(hint, data[name], f"{where}.{name}")
            for name, hint in hints.items()
            if name in data
        }
    )


def _decode_tuple(args: tuple[Any, ...], value: Any, where: str) -> tuple[Any, ...]:
    items = _expect(list, value, where)
    kinds = [args[0]] * len(items) if args[-1] is Ellipsis else args
    if len(kinds) != len(items):
        raise ValueError(f"{where} must have {len(kinds)} values")
    pairs = zip(kinds, items, strict=True)
    return tuple(_decode(kind, item, f"{where}.{i}") for i, (kind, item) in enumerate(pairs))


def _expect(kind: Any, value: Any, where: str) -> Any:
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise TypeError(f"{where} is of the wrong type")
    return value
