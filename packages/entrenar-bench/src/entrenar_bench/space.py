"""What a sweep goes through: axes of a configuration, as a grid or as random points.

temperature=1:8:0.5      from 1 to 8 in steps of 0.5, both ends included
alpha=0.3,0.5,0.7        these values
lr=log:1e-5..1e-3:5      5 points whose logarithms are equally far apart
lr=log:1e-5..1e-3        any point between, for random sampling
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any

from entrenar_common.errors import ConfigError
from entrenar_common.text import escape_controls
from entrenar_core.io.yaml_file import parse_value
from entrenar_core.rng import stream

__all__ = [
    "Axis",
    "Point",
    "Span",
    "check_names",
    "grid",
    "parse_axis",
    "parse_seeds",
    "random_points",
    "stepped",
]

MOST_VALUES = 10_000
"""Of one axis, and of a grid."""

_DIGITS = 6
"""Points between two bounds are rounded to so many significant digits: they are to be read."""

Point = dict[str, Any]
"""A value for each axis, by name."""


@dataclass(frozen=True)
class Span:
    """Every number from `low` to `high`; `whole` ones alone; by their logarithm."""

    low: float
    high: float
    whole: bool = False
    log: bool = False

    def at(self, share: float) -> float:
        """The number that so large a share of the span, from 0 to 1, lies below."""
        if self.log:
            found = self.low * (self.high / self.low) ** share
        else:
            found = self.low + (self.high - self.low) * share
        return self.rounded(found)

    def rounded(self, value: float) -> float:
        """A number of the span as it is written: whole, or of few digits."""
        if self.whole:
            return round(value)
        return min(max(float(f"{value:.{_DIGITS}g}"), self.low), self.high)


@dataclass(frozen=True)
class Axis:
    """A key of the configuration, and the values that it takes: a list of them, or a span."""

    name: str
    values: tuple[Any, ...] | Span

    @property
    def ends(self) -> tuple[Any, ...]:
        """The values of a list, and the lowest and the highest of a span."""
        values = self.values
        return (values.low, values.high) if isinstance(values, Span) else values


def parse_axis(text: str) -> Axis:
    """An axis from `name=values` as the module shows. Raises ConfigError for what is none.

    >>> parse_axis("temperature=1:2:0.5").values
    (1.0, 1.5, 2.0)
    """
    name, separator, values = text.partition("=")
    name = name.strip()
    if not (separator and name and values.strip()):
        raise _refused(text, "is no axis", "write it like temperature=1:8:0.5 or alpha=0.3,0.5")
    values = values.strip()
    if values.startswith("log:"):
        return Axis(name, _log(values.removeprefix("log:"), text))
    if values.count(":") == 2:
        return Axis(name, stepped(*values.split(":"), text=text))
    if ".." in values and "," not in values:
        low, _, high = values.partition("..")
        return Axis(name, _span(low, high, text))
    return Axis(name, _listed(values, text))


def stepped(low: str, high: str, step: str, *, text: str = "") -> tuple[float, ...]:
    """The numbers from `low` to `high`, both included, in steps, reckoned in decimals: ten steps of
    0.1 are 1. Whole numbers where all three are. Raises ConfigError for a range that has none.

    >>> stepped("0", "0.3", "0.1")
    (0.0, 0.1, 0.2, 0.3)
    """
    text = text or f"{low}..{high} in steps of {step}"
    first, last, by = (_decimal(part, text) for part in (low, high, step))
    if by <= 0:
        raise _refused(text, f"the step is {step}", "use a step greater than 0")
    if first > last:
        raise _refused(
            text, f"is empty: {low} is greater than {high}", "give the smaller one first"
        )
    count = int((last - first) / by) + 1
    if count > MOST_VALUES:
        raise _refused(text, f"has {count} values", f"use at most {MOST_VALUES}")
    convert = int if all(_is_whole(part) for part in (low, high, step)) else float
    return tuple(convert(first + by * i) for i in range(count))


def parse_seeds(text: str) -> tuple[int, ...]:
    """Seeds from `0..9`, `0,1,5` or one number. Raises ConfigError for what is none.

    >>> parse_seeds("0..3")
    (0, 1, 2, 3)
    """
    low, dots, high = text.partition("..")
    found = stepped(low, high, "1", text=text) if dots else _listed(text, text)
    for seed in found:
        if not isinstance(seed, int) or isinstance(seed, bool) or not 0 <= seed < 2**63:
            raise _refused(text, f"{seed} is no seed", "seeds are whole numbers of at least 0")
    return tuple(int(seed) for seed in found)


def grid(axes: Sequence[Axis]) -> list[Point]:
    """Every combination of the values of `axes`; the last axis changes fastest.

    Raises ConfigError for a span without points, for a name that is there twice, and for too many.
    """
    check_names(axes)
    lists = [(axis.name, _points_of(axis)) for axis in axes]
    count = math.prod(len(values) for _, values in lists)
    if count > MOST_VALUES:
        raise ConfigError(
            f"the grid has {count} points", hint=f"use at most {MOST_VALUES}, or random points"
        )
    names = [name for name, _ in lists]
    combined = itertools.product(*(values for _, values in lists))
    return [dict(zip(names, values, strict=True)) for values in combined]


def random_points(axes: Sequence[Axis], count: int, *, seed: int) -> list[Point]:
    """`count` different points, each axis drawn by itself: a function of the axes and the seed.

    Raises ConfigError where there are not so many different points.
    """
    check_names(axes)
    if count < 1:
        raise ConfigError(f"{count} random points", hint="ask for at least 1")
    found: dict[tuple[Any, ...], None] = {}
    for draw in range(100 * count):
        generator = stream(seed, "space.random", draw)
        found.setdefault(tuple(_drawn(axis, generator.random()) for axis in axes))
        if len(found) == count:
            names = [axis.name for axis in axes]
            return [dict(zip(names, values, strict=True)) for values in found]
    raise ConfigError(
        f"there are {len(found)} different points, and {count} were asked for",
        hint="ask for fewer, or use the grid",
    )


def _drawn(axis: Axis, share: float) -> Any:
    values = axis.values
    if not isinstance(values, Span):
        return values[int(share * len(values))]
    if values.whole and not values.log:  # each whole number as often as another
        return int(values.low) + int(share * (values.high - values.low + 1))
    return values.at(share)


def _points_of(axis: Axis) -> tuple[Any, ...]:
    values = axis.values
    if not isinstance(values, Span):
        return values
    if values.whole and not values.log:
        return stepped(str(values.low), str(values.high), "1", text=axis.name)
    raise ConfigError(
        f"{escape_controls(axis.name)} has no points, only a lowest and a highest value",
        hint="give a step (1:8:0.5) or a number of points (log:1e-5..1e-3:5), or sample at random",
    )


def _log(values: str, text: str) -> tuple[float, ...] | Span:
    between, colon, points = values.partition(":")
    low, _, high = between.partition("..")
    span = _span(low, high, text, log=True)
    if not colon:
        return span
    if not points.isdecimal() or not 2 <= int(points) <= MOST_VALUES:
        raise _refused(text, f"{points!r} points", f"use 2 to {MOST_VALUES}")
    if span.low == span.high:
        raise _refused(text, "has one point", "give two bounds that differ")
    last = int(points) - 1
    return tuple(dict.fromkeys(span.at(i / last) for i in range(last + 1)))


def _span(low: str, high: str, text: str, *, log: bool = False) -> Span:
    first, last = _decimal(low, text), _decimal(high, text)
    if first > last:
        raise _refused(
            text, f"is empty: {low} is greater than {high}", "give the smaller one first"
        )
    if log and first <= 0:
        raise _refused(text, f"{low} has no logarithm", "use bounds greater than 0")
    whole = _is_whole(low) and _is_whole(high)
    convert: Callable[[Decimal], float] = int if whole else float
    return Span(convert(first), convert(last), whole=whole, log=log)


def _listed(values: str, text: str) -> tuple[Any, ...]:
    parts = [part.strip() for part in values.split(",")]
    if not all(parts):
        raise _refused(text, "has an empty value", "write it like 0.3,0.5,0.7")
    found = tuple(parse_value(part) for part in parts)
    for value in found:
        if isinstance(value, float) and not math.isfinite(value):
            raise _refused(text, f"{value} is not finite", "give numbers")
        if found.count(value) > 1:
            raise _refused(text, f"has {value} twice", "give each value once")
    return found


def _decimal(part: str, text: str) -> Decimal:
    try:
        found = Decimal(part.strip())
    except InvalidOperation:
        found = Decimal("NaN")
    if not found.is_finite():
        raise _refused(text, f"{part!r} is no number", "write it like 1:8:0.5 or log:1e-5..1e-3:5")
    return found


def _is_whole(part: str) -> bool:
    return part.strip().lstrip("-").isdecimal()


def check_names(axes: Sequence[Axis]) -> None:
    """Raise ConfigError for no axes, and for a name that is there twice."""
    if not axes:
        raise ConfigError("no axis is given", hint="give one like temperature=1:8:0.5")
    names = [axis.name for axis in axes]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(
                f"the axis {escape_controls(name)} is there twice", hint="give each axis once"
            )


def _refused(text: str, what: str, hint: str) -> ConfigError:
    return ConfigError(f"{escape_controls(text)}: {what}", hint=hint)
