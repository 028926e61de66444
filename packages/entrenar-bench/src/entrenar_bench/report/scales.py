"""The scales that drawings of a report have in every format."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from entrenar_bench.report.document import Curves, DotRow
from entrenar_core.train.chart import Point, extremes
from entrenar_core.train.scale import ticks_of

__all__ = ["CurveScale", "Scale", "drawn_points", "extent", "extent_of_curves"]


@dataclass(frozen=True)
class Scale:
    """Ticks at equal distances, the first and last of which are its ends."""

    ticks: Sequence[float]

    def share(self, value: float) -> float:
        """How far along a value is, from 0 to 1; what is beyond an end is at it."""
        low, high = self.ticks[0], self.ticks[-1]
        return min(1.0, max(0.0, (value - low) / (high - low)))


@dataclass(frozen=True)
class CurveScale(Scale):
    """A scale of values, and the steps that it goes with."""

    first: int
    last: int
    clipped: bool

    def along(self, step: int) -> float:
        """How far along the steps a step is, from 0 to 1."""
        return (step - self.first) / (self.last - self.first) if self.last > self.first else 0.5


def extent(rows: Sequence[DotRow]) -> Scale:
    """Room for all runs and intervals."""
    values = [v for row in rows for v in (row.low, row.high, row.mean, *(v for _, v in row.points))]
    finite = [value for value in values if math.isfinite(value)]
    return Scale(ticks_of(min(finite), max(finite)))


def extent_of_curves(found: Curves) -> CurveScale | None:
    """Room for the runs that were finished, or for all if none was: one that diverged does not
    flatten the others. None where no loss is finite."""
    lines = [line for panel in found.panels for line in panel.lines]
    steps = [step for line in lines for step, _ in line.points]
    every = [v for line in lines for _, v in line.points if math.isfinite(v)]
    if not every:
        return None
    whole = [v for line in lines if line.complete for _, v in line.points if math.isfinite(v)]
    ticks = ticks_of(min(whole or every), max(whole or every))
    clipped = min(every) < ticks[0] or max(every) > ticks[-1]
    return CurveScale(ticks, min(steps), max(steps), clipped)


def drawn_points(points: Sequence[tuple[int, float]], bins: int) -> list[Point]:
    """The least and the greatest of each of `bins` stretches; None where not finite."""
    return extremes([(s, v if math.isfinite(v) else None) for s, v in points], bins)
