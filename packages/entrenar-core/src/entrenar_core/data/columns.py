"""What the columns of a table hold, judged by a sample of its rows."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Literal

from entrenar_core.data.readers import Row, Source
from entrenar_core.data.sources import FIELD_NAMES, ROW_READERS, SourceFile

__all__ = ["Column", "columns_of", "judged"]

Kind = Literal["text", "categorical", "numeric", "identifier", "empty", "other"]

SAMPLE = 1000
"""Rows that are looked at."""
_FEW_TEXTS, _FEW_NUMBERS, _LONGEST_NAME = 50, 20, 64


@dataclass(frozen=True)
class Column:
    """A column of a table.

    kind:    text to be read; a few values that come again; numbers; names of the rows, which no
             value comes twice of; nothing at all; or something else, such as lists
    why:     what was seen, in words
    strings: whether its values are texts
    length:  the mean length of these in characters, 0 where they are none
    """

    name: str
    kind: Kind
    why: str
    strings: bool = False
    length: float = 0.0


def columns_of(source: Source | SourceFile, form: str, *, rows: int = SAMPLE) -> list[Column]:
    """The columns of the table `source`, whose format is `form`, by its first `rows` rows.

    Rows that cannot be read are passed over. Raises what reading it raises.
    """
    names = FIELD_NAMES[form](source)
    found = ROW_READERS[form](source, {name: name for name in names})
    sample = [item.values for item in islice(found, rows) if isinstance(item, Row)]
    return [judged(name, [row[name] for row in sample], written=form == "csv") for name in names]


def judged(name: str, values: Sequence[Any], *, written: bool = False) -> Column:
    """What the column `name` with these values is; `written` numbers are texts that read as such.

    >>> judged("label", ["good", "bad", "good", "bad", "good"]).kind
    'categorical'
    >>> judged("price", ["1.5", "2.25", "8"], written=True).kind
    'numeric'
    """
    given = [value for value in values if value is not None and (not written or value != "")]
    if not given:
        return Column(name, "empty", "no row has a value")
    numbers = _numbers(given, written)
    if all(isinstance(value, bool) for value in given):
        return Column(name, "categorical", "true or false")
    if numbers is not None:
        return _of_numbers(name, numbers)
    if all(isinstance(value, str) for value in given):
        return _of_texts(name, given)
    return Column(name, "other", f"has values such as {type(given[0]).__name__}")


def _numbers(values: Sequence[Any], written: bool) -> list[int | float] | None:
    """`values` as numbers, None where not all are."""
    found: list[int | float] = []
    for value in values:
        number = _written_number(value) if written and isinstance(value, str) else value
        if isinstance(number, bool) or not isinstance(number, int | float):
            return None
        found.append(number)
    return found


def _written_number(text: str) -> int | float | None:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return None


def _of_numbers(name: str, numbers: Sequence[int | float]) -> Column:
    different, count = len(set(numbers)), len(numbers)
    if not all(isinstance(number, int) for number in numbers):
        finite = all(math.isfinite(number) for number in numbers)
        why = f"numbers with fractions, {different} different of {count}"
        return Column(name, "numeric" if finite else "other", why if finite else "not all finite")
    if different <= _few(count, _FEW_NUMBERS):
        why = f"whole numbers, only {different} different in {count} rows"
        return Column(name, "categorical", why)
    if list(numbers) == list(range(int(numbers[0]), int(numbers[0]) + count)):
        return Column(name, "identifier", "whole numbers that count the rows")
    return Column(name, "numeric", f"whole numbers, {different} different in {count} rows")


def _of_texts(name: str, texts: Sequence[str]) -> Column:
    different, count, longest = len(set(texts)), len(texts), max(map(len, texts))
    length = math.fsum(map(len, texts)) / count
    about = {"strings": True, "length": length}
    if different <= _few(count, _FEW_TEXTS) and longest <= _LONGEST_NAME:
        why = f"texts, only {different} different in {count} rows"
        return Column(name, "categorical", why, **about)
    if different == count and not any(any(map(str.isspace, text)) for text in texts):
        why = "texts without a space, no two of which are the same"
        return Column(name, "identifier", why, **about)
    return Column(name, "text", f"texts of {length:.0f} characters on average", **about)


def _few(count: int, most: int) -> int:
    """How many different values of `count` are few."""
    return max(2, min(most, count // 2))
