"""Location, spread and trend of numbers some of which are wrong."""

import statistics
from collections import deque
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from entrenar_core.train.anomalies.figures import FLOORS, LOSS, MEMORY

__all__ = ["Rise", "Trend", "Usual"]

Floats = npt.NDArray[np.float64]

_SIGMA = 1.4826
"""The standard deviation of a normal distribution as a multiple of its median absolute deviation:
1 / Φ⁻¹(3/4)."""


@dataclass(frozen=True)
class Usual:
    """The median of each figure and its usual distance from it, (F,) each.

    Source: Hampel, "The influence curve and its role in robust estimation", 1974; Iglewicz and
    Hoaglin, "How to Detect and Handle Outliers", 1993, for the modified z-score.
    """

    median: Floats
    spread: Floats

    @classmethod
    def of(cls, vectors: Floats) -> "Usual":
        """Of vectors (N, F): 1.4826 · MAD, and no less than `FLOORS`, so that a figure that never
        changed does not make an alarm of its first change."""
        median = np.median(vectors, axis=0)
        floors = np.array(FLOORS)
        floors[[LOSS, MEMORY]] *= np.abs(median[[LOSS, MEMORY]])
        spread = _SIGMA * np.median(np.abs(vectors - median), axis=0)
        return cls(median, np.maximum(np.maximum(spread, floors), np.finfo(np.float64).tiny))

    def scores(self, vectors: Floats) -> Floats:
        """How many spreads above its median each figure is: the robust z-score."""
        return (vectors - self.median) / self.spread


@dataclass(frozen=True)
class Rise:
    """How a figure grew over the points of a `Trend`: from `first` to `last`, on a straight line,
    whose points are `spread` off it."""

    first: float
    last: float
    spread: float
    steady: float
    """The share of all pairs of points whose later one is higher by half of what the line is, at
    least."""

    @property
    def height(self) -> float:
        return self.last - self.first


class Trend:
    """A robust straight line through the last `points` values, each the median of `every`.

    The slope is the median of the slopes of all pairs (Theil 1950, Sen 1968). Whether it is a line
    is judged as Mann (1945) and Kendall judge whether there is a trend, by the share of pairs that
    rise, here with the line: what grew in n equal stairs has 1 − 1/n of them at most.
    """

    def __init__(self, *, every: int, points: int):
        self.steps = every * points
        self._every, self._points, self._inside = every, points, list[float]()
        self._values: deque[float] = deque(maxlen=points)
        self._earlier, self._later = np.triu_indices(points, 1)

    def take(self, value: float, least: float) -> Rise | None:
        """How it grew up to here, where `value` completes a point, there are enough of them and the
        last is higher than the first by the share `least`, and the line is too."""
        self._inside.append(value)
        if len(self._inside) < self._every:
            return None
        self._values.append(statistics.median(self._inside))
        self._inside.clear()
        first, last = self._values[0], self._values[-1]
        if len(self._values) < self._points or last - first <= least * abs(first):
            return None
        rise = self._rise(np.array(self._values))
        return rise if rise.height > least * abs(rise.first) else None

    def _rise(self, values: Floats) -> Rise:
        slopes = (values[self._later] - values[self._earlier]) / (self._later - self._earlier)
        slope = np.median(slopes)
        level = values - slope * np.arange(len(values))
        first = np.median(level)
        spread = _SIGMA * np.median(np.abs(level - first))
        last = first + slope * (len(values) - 1)
        return Rise(float(first), float(last), float(spread), float(np.mean(slopes >= slope / 2)))
