"""How sure figures are that are made of sums over documents, or over rows of a data set.

Each document is taken as a whole, because its tokens are not independent. From 20 documents on they
are resampled; fewer say too little of how documents vary for that, and then it is Student's t with
the error that the jackknife gives, which for a mean is the usual interval.
Sources: Efron and Tibshirani, "An Introduction to the Bootstrap" (1993), chapters 11 and 13.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from entrenar_common.errors import ShapeError
from entrenar_core.rng import stream
from entrenar_distill.statistics import draws

__all__ = [
    "FEW",
    "Figure",
    "IntervalMethod",
    "Sample",
    "Statistic",
    "minus",
    "percentiles",
    "student_t",
    "times_drawn",
]

FEW = 20
"""Documents from which on they are resampled."""

Statistic = Callable[[np.ndarray], np.ndarray]
"""From sums (..., K) to a figure (...,)."""


@dataclass(frozen=True)
class Figure:
    """A measured value and the bounds of its interval, NaN where nothing is known of them."""

    value: float
    low: float = math.nan
    high: float = math.nan


@dataclass(frozen=True)
class IntervalMethod:
    """How the intervals were made: of `count` documents or rows, as `over` says.

    `method` is "bootstrap", "jackknife t" or "none"; `resamples` and `seed` are those of the first.
    """

    over: str
    count: int
    method: str
    confidence: float
    resamples: int
    seed: int

    def sentence(self) -> str:
        """What a reader has to know of the intervals."""
        share = f"{self.confidence * 100:g} % intervals over {self.count} {self.over}"
        if self.method == "none":
            return f"No intervals: one of {self.over} says nothing of how they vary."
        if self.method == "bootstrap":
            return f"{share}: bootstrap, {self.resamples} resamples, seed {self.seed}."
        return f"{share}: Student's t, too few {self.over} to resample (fewer than {FEW})."


class Sample:
    """Sums (N, K) of N documents, of which figures are made.

    Whatever is asked of one sample is asked of the same resampled documents, so the difference of
    two models' figures is paired.
    """

    def __init__(
        self,
        sums: np.ndarray,
        *,
        over: str,
        seed: int = 0,
        confidence: float = 0.95,
        resamples: int = 10_000,
    ) -> None:
        if sums.ndim != 2 or len(sums) == 0:
            raise ShapeError(f"sums {sums.shape}", hint="give a row of sums for each document")
        sums = np.asarray(sums, np.float64)
        count = len(sums)
        method = "bootstrap" if count >= FEW else "jackknife t" if count > 1 else "none"
        resamples, seed = (resamples, seed) if method == "bootstrap" else (0, 0)
        self.how = IntervalMethod(over, count, method, confidence, resamples, seed)
        self.total = sums.sum(axis=0)  # (K,)
        with np.errstate(invalid="ignore"):  # what is not finite leaves nothing finite beside it
            if method == "bootstrap":
                self._others = _resampled_sums(sums, self.how)  # (resamples, K)
            else:
                self._others = self.total - sums  # (N, K): all documents but one

    def figure(
        self, statistic: Statistic, *, least: float = -math.inf, most: float = math.inf
    ) -> Figure:
        """The figure with percentiles of the resampled ones; it lies in `least` to `most`, and has
        no bounds where it is one of these in every document.

        Of few documents, it must be a smooth function of the sums.
        """
        value = float(statistic(self.total))
        if self.how.method == "none" or not math.isfinite(value):
            return Figure(value)
        others = statistic(self._others)
        if self.how.method == "bootstrap":
            low, high = self._percentiles(others)
        else:
            count = len(others)
            error = math.sqrt((count - 1) / count * ((others - others.mean()) ** 2).sum())
            reach = student_t(self.how.confidence, count - 1) * error
            low, high = value - reach, value + reach
        if low == high and value in (least, most):
            return Figure(value)  # no document had anything else: nothing to tell a bound from
        return Figure(value, max(low, least), min(high, most))

    def share(self, statistic: Statistic) -> Figure:
        """A figure between 0 and 1 that is a share of tokens or rows.

        Where it is 0 or 1, resampling finds no other value, which says nothing of what was not
        seen. Then the other bound is that of as many independent trials as there are documents,
        since the tokens of one may all go together.
        Source: Clopper and Pearson 1934, Biometrika 26, 404-413.
        """
        found = self.figure(statistic, least=0.0, most=1.0)
        if self.how.method == "none" or 0 < found.value < 1:
            return found
        unseen = 1 - ((1 - self.how.confidence) / 2) ** (1 / self.how.count)
        return Figure(0.0, 0.0, unseen) if found.value == 0 else Figure(1.0, 1 - unseen, 1.0)

    def distance(self, parts: slice, weight: int) -> Figure:
        """Σ |sums of `parts`| / sum of `weight`: how far all of the parts are from 0.

        Chance raises a sum of absolute values, and resampling raises it once more, so the
        percentiles lie too high. The upper one is kept, which is too careful; how far it lies from
        the figure is the lower bound's distance too. That bound is 0 where parts that are 0 but for
        chance would be as far: sums that are resampled vary around their own as much as those vary
        around what they should be. Of few documents nothing is said.
        """

        def of(sums: np.ndarray, center: np.ndarray | float = 0.0) -> np.ndarray:
            return np.abs(sums[..., parts] - center).sum(axis=-1) / sums[..., weight]

        value = float(of(self.total))
        if self.how.method != "bootstrap" or not math.isfinite(value):
            return Figure(value)
        _, high = self._percentiles(of(self._others))
        _, by_chance = self._percentiles(of(self._others, self.total[parts]))
        low = 0.0 if value <= by_chance else max(2 * value - high, 0.0)
        return Figure(value, low, high)

    def _percentiles(self, values: np.ndarray) -> tuple[float, float]:
        return percentiles(values, self.how.confidence)


def minus(one: Statistic, other: Statistic) -> Statistic:
    """The difference of two figures of the same sums."""
    return lambda sums: one(sums) - other(sums)


def percentiles(values: np.ndarray, confidence: float) -> tuple[float, float]:
    """What lies below and above the middle `confidence` of resampled values."""
    tail = (1 - confidence) / 2
    low, high = np.quantile(values, [tail, 1 - tail])
    return float(low), float(high)


def times_drawn(count: int, how: IntervalMethod) -> Iterator[tuple[slice, np.ndarray]]:
    """How often each of `count` rows is in each resampled set, (some resamples, count), and the
    slice of the resamples that these are: those of every `Sample` with this method."""
    for part, drawn in draws(count, how.resamples, stream(how.seed, "bootstrap")):
        rows = len(drawn)
        places = drawn + np.arange(rows)[:, None] * count
        times = np.bincount(places.reshape(-1), minlength=rows * count).reshape(rows, count)
        yield part, times.astype(np.float64)


def _resampled_sums(sums: np.ndarray, how: IntervalMethod) -> np.ndarray:
    found = np.empty((how.resamples, sums.shape[1]))
    for part, times in times_drawn(len(sums), how):
        found[part] = times @ sums
    return found


def student_t(confidence: float, freedom: int) -> float:
    """How many standard errors to both sides hold a t-distributed value with this probability.

    >>> round(student_t(0.95, 4), 3)
    2.776
    """
    low, high = 0.0, math.pi / 2  # of the angle, whose tangent is t/√freedom
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _within(middle, freedom) < confidence else (low, middle)
    return math.tan(low) * math.sqrt(freedom)


def _within(angle: float, freedom: int) -> float:
    """The probability that |t| < √freedom · tan(angle).

    Source: Abramowitz and Stegun, "Handbook of Mathematical Functions", 26.7.3 and 26.7.4.
    """
    sine, cosine = math.sin(angle), math.cos(angle)
    odd = freedom % 2
    term, total = (cosine, 0.0) if odd else (1.0, 0.0)
    for k in range(1 + odd, freedom, 2):
        total += term
        term *= cosine**2 * k / (k + 1)
    return 2 / math.pi * (angle + sine * total) if odd else sine * total
