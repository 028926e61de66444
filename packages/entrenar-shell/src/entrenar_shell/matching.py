"""Which names fit what was typed, in which order; of a hundred thousand in no time."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice

__all__ = ["LIMIT", "Match", "best", "fit", "natural", "sorted_names"]

LIMIT = 100
"""So many are offered at most: nobody reads more."""

_LAST = "\U0010ffff"
_DIGITS = re.compile(r"([0-9]+)")


@dataclass(frozen=True)
class Match:
    """A text that can stand where something was typed. `shown` is what a menu shows, `note` some
    words beside it. One that `goes_on`, such as a folder, is typed further; one that is `bare`,
    such as the name of a model, has its meaning only without quotes. The `rank` is 0 where it
    begins with what was typed, 1 where letter case is the only difference, 2 where it holds it, if
    that is more than a letter."""

    text: str
    shown: str = ""
    note: str = ""
    goes_on: bool = False
    bare: bool = False
    rank: int = 0


def fit(name: str, typed: str) -> int | None:
    """The rank of a name (see `Match`), None where it does not fit."""
    if name.startswith(typed):
        return 0
    folded, wanted = name.casefold(), typed.casefold()
    if folded.startswith(wanted):
        return 1
    return 2 if len(typed) > 1 and wanted in folded else None


def best(matches: Iterable[Match]) -> list[Match]:
    """The matches by rank, else in their order, and no more than are offered."""
    return sorted(matches, key=lambda match: match.rank)[:LIMIT]


def natural(name: str) -> list[tuple[int, str]]:
    """A key for sorting by which layer.2 is before layer.10."""
    parts = _DIGITS.split(name)  # text and digits in turn
    return [
        (len(part.lstrip("0")), part.lstrip("0")) if number % 2 else (0, part)
        for number, part in enumerate(parts)
    ]


def sorted_names(names: Sequence[str], typed: str) -> list[Match]:
    """The matches among sorted names with dots in them.

    Where too many begin with what was typed, their next parts are offered instead: model.layers.
    for all names that go on behind it. Takes time with what is offered, and only where few names
    begin so, with all.
    """
    start, stop = bisect_left(names, typed), bisect_left(names, typed + _LAST)
    if stop - start > LIMIT:
        return sorted(_branches(names, start, stop), key=lambda match: natural(match.text))
    found = sorted(names[start:stop], key=natural)
    more: list[str] = []
    if len(typed) > 1:
        inside = (name for name in names if typed in name and not name.startswith(typed))
        more += islice(inside, LIMIT - len(found))
    if not found and not more:
        wanted = typed.casefold()
        more += islice((name for name in names if wanted in name.casefold()), LIMIT)
    return [Match(name) for name in found] + [Match(name, rank=2) for name in more]


def _branches(names: Sequence[str], start: int, stop: int) -> list[Match]:
    """The names from `start` up to `stop` by the first part in which they differ."""
    first, last = names[start], names[stop - 1]
    same = next(
        (i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), len(first)
    )
    stem = first.rfind(".", 0, same) + 1
    found: list[Match] = []
    while start < stop and len(found) < LIMIT:
        dot = names[start].find(".", stem) + 1
        branch = names[start][:dot] if dot else names[start]
        after = bisect_left(names, branch + _LAST, start, stop) if dot else start + 1
        note = f"{after - start} tensors" if dot else ""
        found.append(Match(branch, note=note, goes_on=bool(dot)))
        start = after
    return found
