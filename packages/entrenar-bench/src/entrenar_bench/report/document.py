"""A report as parts in sections, of which each format is written: so all of them say the same."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from entrenar_core.train.page_parts import Facts, Grid, Paragraph

__all__ = [
    "KEY",
    "TIMINGS",
    "Code",
    "Curves",
    "Document",
    "DotRow",
    "Dots",
    "Facts",
    "Figure",
    "Grid",
    "Items",
    "Line",
    "Panel",
    "Paragraph",
    "Part",
    "Section",
    "Sweep",
    "SweepPoint",
    "number",
    "p_value",
]

KEY = "A dot is a run, the line the interval of the mean, the stroke across it the mean."
"""Of a figure of runs."""

TIMINGS = "timings"
"""The name of the one section that may differ between reports of equal studies."""


@dataclass(frozen=True)
class Items:
    """Sentences as a list."""

    texts: Sequence[str]


@dataclass(frozen=True)
class Code:
    """Lines for a shell."""

    lines: Sequence[str]


@dataclass(frozen=True)
class DotRow:
    """The runs of an arm: (seed, value) of each, the mean with its interval, and how many runs have
    no value."""

    name: str
    points: Sequence[tuple[int, float]]
    mean: float
    low: float
    high: float
    missing: int = 0


@dataclass(frozen=True)
class Dots:
    """Every run as a dot on one scale, arm below arm."""

    title: str
    rows: Sequence[DotRow]


@dataclass(frozen=True)
class Line:
    """A number over steps, NaN where it was not finite; `complete` if the run was finished."""

    name: str
    points: Sequence[tuple[int, float]]
    complete: bool = True


@dataclass(frozen=True)
class Panel:
    """The lines of an arm."""

    name: str
    lines: Sequence[Line]


@dataclass(frozen=True)
class Curves:
    """Panels beside each other on one scale."""

    title: str
    panels: Sequence[Panel]


@dataclass(frozen=True)
class SweepPoint:
    """Where an arm is on the parameter, and what its runs gave there."""

    at: float
    row: DotRow


@dataclass(frozen=True)
class Sweep:
    """A metric against a parameter, in the order of its values; `key` says what is drawn."""

    title: str
    parameter: str
    points: Sequence[SweepPoint]
    key: str = KEY

    @property
    def logarithmic(self) -> bool:
        """Whether the values are so far apart that their ratios are what is seen."""
        low, high = self.points[0].at, self.points[-1].at
        return low > 0 and high / low >= 30

    def share(self, point: SweepPoint) -> float:
        """How far along the axis a point is, from 0 to 1."""
        scale = math.log if self.logarithmic else float
        low, high = scale(self.points[0].at), scale(self.points[-1].at)
        return (scale(point.at) - low) / (high - low)


Figure = Dots | Curves | Sweep
Part = Paragraph | Facts | Grid | Items | Code | Figure


@dataclass(frozen=True)
class Section:
    """Parts below a heading; `name` marks it in every format."""

    name: str
    title: str
    parts: Sequence[Part]


@dataclass(frozen=True)
class Document:
    """A whole report."""

    title: str
    sections: Sequence[Section]


def number(value: float | None) -> str:
    """A number to six digits, or to its unit; a dash where there is none.

    >>> number(0.1 + 0.2), number(3.0), number(float("nan")), number(None)
    ('0.3', '3', '–', '–')
    """
    if value is None or math.isnan(value):
        return "–"
    if abs(value) < 1e15 and (float(value).is_integer() or abs(value) >= 1e5):
        return f"{value + 0.0:.0f}"  # -0.0 is 0
    return f"{value:.6g}"


def p_value(value: float | None) -> str:
    """A probability to three digits."""
    return "–" if value is None or math.isnan(value) else f"{value:.3g}"
