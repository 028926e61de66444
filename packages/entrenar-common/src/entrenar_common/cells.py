"""One value as the text of a table's cell, and which texts read as numbers (pure)."""

import enum
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import singledispatch
from typing import Any

from entrenar_common.text import escape_controls

__all__ = ["format_cell", "is_numeric"]


@singledispatch
def format_cell(value: Any) -> str:
    """The text of one value in a table; names from files are safe to pass.

    >>> format_cell(0.1 + 0.2), format_cell(None), format_cell(True), format_cell([1, 2])
    ('0.3', '–', 'yes', '1, 2')
    """
    # NumPy's scalars and arrays, without importing NumPy here.
    as_python = getattr(value, "tolist", None)
    return escape_controls(str(value)) if as_python is None else format_cell(as_python())


@format_cell.register
def _(value: str) -> str:
    return escape_controls(value)


@format_cell.register
def _(_value: None) -> str:
    return "–"


@format_cell.register
def _(value: bool) -> str:
    return "yes" if value else "no"


@format_cell.register
def _(value: float) -> str:
    return f"{value:.6g}"


@format_cell.register
def _(value: enum.Enum) -> str:
    return format_cell(value.value)


@format_cell.register(list)
@format_cell.register(tuple)
@format_cell.register(set)
@format_cell.register(frozenset)
def _(value: Iterable[Any]) -> str:
    return ", ".join(format_cell(item) for item in value) or "–"


@format_cell.register
def _(value: Mapping) -> str:
    return ", ".join(f"{format_cell(k)}: {format_cell(v)}" for k, v in value.items()) or "–"


# A number, perhaps with a sign, a unit ("1.2 GB", "98.5%", "12.3K tokens/s") or as a duration.
_NUMBER = re.compile(
    r"[<>≈~±×+−-]?\d[\d,]*(\.\d+)?([eE][+-]?\d+)?( ?[%×]| ?[A-Za-zµ]{1,3}| [A-Za-zµ]+/[A-Za-zµ]+"
    r"|[KMBT] [A-Za-z]+/[A-Za-z]+|(m|h|d) \d\d[smh])?|[+-]?(nan|inf)|–|"
)


def is_numeric(cells: Sequence[str]) -> bool:
    """Whether a column of these texts reads as numbers; empty cells do not say otherwise."""
    return all(_NUMBER.fullmatch(cell) for cell in cells) and any(
        cell not in {"", "–"} for cell in cells
    )
