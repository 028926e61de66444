"""Records as text for people and as JSON for programs.

A record is a dataclass. It may define `__view__(self)`, which returns the parts to show: `Text`,
`Fields`, `Table`, `Bar`, and other records, whose parts take their place. A record without it is
shown as its fields. The JSON of a record is always its fields, so a view can leave out, round or
explain.
"""

from __future__ import annotations

import dataclasses
import enum
import json
import math
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import singledispatch
from typing import TYPE_CHECKING, Any

from entrenar_common.errors import InternalError, ShapeError

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["Bar", "Fields", "Table", "Text", "render", "to_json", "to_plain", "view"]

_PADDING = re.compile(r" +$", re.MULTILINE)


@dataclass(frozen=True)
class Text:
    """A paragraph, or a cell of its own style (a name of `console.STYLES`, such as good or bad).

    Line breaks in it are kept; other control characters are shown escaped.
    """

    text: str
    style: str = ""


@dataclass(frozen=True)
class Fields:
    """Names and values below each other, under a title when there is one."""

    title: str | None
    items: Sequence[tuple[str, Any]]


@dataclass(frozen=True)
class Table:
    """Rows under column names; a column in which every cell is a number is aligned to the right.

    Raises ShapeError when a row has more or fewer cells than there are columns.
    """

    title: str | None
    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]
    caption: str | None = None

    def __post_init__(self) -> None:
        for index, row in enumerate(self.rows):
            if len(row) != len(self.columns):
                raise ShapeError(
                    f"row {index} of the table {self.title!r} has {len(row)} cells "
                    f"for {len(self.columns)} columns",
                    hint="give every row one cell per column; None is shown as an empty one",
                )


@dataclass(frozen=True)
class Bar:
    """A whole that is divided: names and shares that add up to 1, as one bar with a legend."""

    parts: Sequence[tuple[str, float]]


# ---- JSON --------------------------------------------------------------------------------------


def to_json(value: Any) -> str:
    """The JSON text of a record or plain value: ASCII, indented by 2, NaN and infinity as null."""
    return json.dumps(to_plain(value), indent=2, allow_nan=False)


@singledispatch
def to_plain(value: Any) -> Any:
    """A record as what JSON knows: dict, list, str, numbers and None; never NaN or infinity.

    Raises InternalError for a value that has no such form.
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: to_plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    as_python = getattr(value, "tolist", None)
    if as_python is None:
        raise InternalError(
            f"a value of type {type(value).__name__} has no JSON form",
            hint="records hold plain values, sequences, mappings and other records",
        )
    return to_plain(as_python())


@to_plain.register(str)
@to_plain.register(int)
@to_plain.register(type(None))
def _(value: Any) -> Any:
    return value


@to_plain.register
def _(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


@to_plain.register
def _(value: enum.Enum) -> Any:
    return to_plain(value.value)


@to_plain.register
def _(value: os.PathLike) -> str:
    return os.fspath(value)


@to_plain.register(list)
@to_plain.register(tuple)
def _(value: Iterable[Any]) -> list[Any]:
    return [to_plain(item) for item in value]


@to_plain.register(set)
@to_plain.register(frozenset)
def _(value: Iterable[Any]) -> list[Any]:
    return sorted((to_plain(item) for item in value), key=repr)


@to_plain.register
def _(value: Mapping) -> dict[str, Any]:
    return {str(to_plain(key)): to_plain(item) for key, item in value.items()}


# ---- views -------------------------------------------------------------------------------------


Part = Text | Fields | Table | Bar
"""What a view is made of."""


def view(record: Any) -> list[Part]:
    """The parts that show a record: its `__view__`, with records in it replaced by their parts."""
    if isinstance(record, Part):
        return [record]
    own = getattr(record, "__view__", None)
    parts = _default_view(record) if own is None else own()
    return [shown for part in parts for shown in view(part)]


def _default_view(record: Any) -> list[Any]:
    """Simple fields first, then each field that is a record or a list of records."""
    simple: list[tuple[str, Any]] = []
    nested: list[Any] = []
    for field in dataclasses.fields(record):
        name, value = field.name.replace("_", " "), getattr(record, field.name)
        if dataclasses.is_dataclass(value):
            nested += _titled(name, view(value))
        elif isinstance(value, list | tuple) and value and dataclasses.is_dataclass(value[0]):
            nested.append(_records_table(name, value))
        else:
            simple.append((name, value))
    return ([Fields(None, simple)] if simple else []) + nested


def _titled(title: str, parts: Sequence[Part]) -> list[Part]:
    if parts and isinstance(parts[0], Fields) and parts[0].title is None:
        return [dataclasses.replace(parts[0], title=title), *parts[1:]]
    return [Text(title, "title"), *parts]


def _records_table(title: str, records: Sequence[Any]) -> Table:
    names = [field.name for field in dataclasses.fields(records[0])]
    rows = [[getattr(record, name) for name in names] for record in records]
    return Table(title, [name.replace("_", " ") for name in names], rows)


def render(record: Any, console: Console) -> None:
    """Print a record's view on a rich console, with one empty line between its parts.

    Paragraphs that follow each other stay together. Markup in texts is not interpreted.
    """
    from entrenar_common import layout

    previous: Any = None
    with console.capture() as printed:
        for part in view(record):
            if previous is not None and not (isinstance(previous, Text) and isinstance(part, Text)):
                console.print()
            console.print(layout.of(part, console.width))
            previous = part
    # Rich fills lines with spaces up to the width, which gets in the way of copying and of diffs.
    # Written past rich, whose answer to a closed pipe is to end the program.
    console.file.write(_PADDING.sub("", printed.get()))
