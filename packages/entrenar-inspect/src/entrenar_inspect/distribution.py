"""How numbers are distributed: which there are and how often, or how many lie in narrow bins."""

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from entrenar_core.kernels.tallying import PATTERNS

BINS = 24
"""Columns of a histogram."""

WIDTH = 4
"""A histogram goes so many deviations to either side of the mean, where there are numbers."""

FAR = 6
"""So many deviations from the mean a number is an outlier."""

TYPICAL = 0.999
"""The quantile of the magnitudes that stands for the large ones, without the very largest."""


@dataclass(frozen=True)
class Histogram:
    """How many numbers lie in each of BINS bins of one width between `low` and `high`; those
    outside are not counted."""

    low: float
    high: float
    counts: tuple[int, ...]


@dataclass(frozen=True)
class Values:
    """What there is to know of a tensor's numbers; figures are of the finite ones, None where there
    are none.

    first_bad: the place of the first NaN or infinity in C order; deviation: √(Σ(x − mean)²/n);
    norm: √Σx²; typical: the quantile 0.999 of the magnitudes; outliers: how many are more than 6
    deviations from the mean. What follows from bins, the last three, is exact up to 16 bits an
    element, and beyond to 0.4 % of where a number lies.
    """

    elements: int
    nans: int
    infinities: int
    first_bad: int | None
    zeros: int
    minimum: float | None
    maximum: float | None
    mean: float | None
    deviation: float | None
    norm: float | None
    typical: float | None
    outliers: int
    histogram: Histogram | None

    @property
    def not_finite(self) -> int:
        return self.nans + self.infinities

    @property
    def constant(self) -> bool:
        """Whether all are one finite number, and there is more than one of them."""
        return self.elements > 1 and not self.not_finite and self.minimum == self.maximum


@dataclass(frozen=True)
class Sums:
    """What is added up of numbers besides their counts, over the finite ones."""

    total: float
    squares: float
    minimum: float
    maximum: float
    zeros: int
    nans: int
    infinities: int


@dataclass(frozen=True)
class _Scale:
    """The finite numbers of a type in ascending order: their patterns, and those that are not."""

    patterns: np.ndarray
    numbers: np.ndarray
    nans: np.ndarray
    infinite: np.ndarray


@cache
def scale_of(dtype: np.dtype) -> _Scale:
    """All numbers of a type of 8 or 16 bits."""
    every = np.arange(2 ** (8 * dtype.itemsize), dtype=f"u{dtype.itemsize}")
    return _scale(every.view(dtype))


@cache
def upper_halves() -> _Scale:
    """The middles of the bins of float32 numbers that share the upper half of their bits."""
    low = (np.arange(PATTERNS, dtype=np.uint32) << np.uint32(16)) | np.uint32(0x8000)
    return _scale(low.view(np.float32))


def _scale(narrow: np.ndarray) -> _Scale:
    with np.errstate(invalid="ignore"):  # NaN of a kind that signals are among them
        numbers = narrow.astype(np.float64)
    finite = np.flatnonzero(np.isfinite(numbers))
    order = finite[np.argsort(numbers[finite], kind="stable")]
    return _Scale(
        order, numbers[order], np.flatnonzero(np.isnan(numbers)), np.flatnonzero(np.isinf(numbers))
    )


def of_patterns(counts: np.ndarray, dtype: np.dtype) -> Values:
    """The values of an array from how often each pattern of its type's bits occurs; exact."""
    scale = scale_of(dtype)
    found = counts[scale.patterns]
    there = np.flatnonzero(found)
    numbers, found = scale.numbers[there], found[there]
    sums = Sums(
        float(numbers @ found),
        float((numbers * numbers) @ found),
        float(numbers[0]) if found.size else np.inf,
        float(numbers[-1]) if found.size else -np.inf,
        int(found[numbers == 0].sum()),
        int(counts[scale.nans].sum()),
        int(counts[scale.infinite].sum()),
    )
    return summarised(numbers, found, sums)


def of_bins(counts: np.ndarray, sums: Sums) -> Values:
    """The values of float32 numbers from how often each upper half of their bits occurs."""
    scale = upper_halves()
    found = counts[scale.patterns]
    there = np.flatnonzero(found)
    return summarised(scale.numbers[there], found[there], sums)


def surveyed(facts: np.ndarray) -> Sums:
    """The seven facts of `kernels.tallying.survey`, or their sum over pieces, by name."""
    total, squares, least, largest, *whole = facts.tolist()
    return Sums(total, squares, least, largest, *map(int, whole))


def joined(facts: np.ndarray, more: np.ndarray) -> np.ndarray:
    """The facts of two pieces as those of both."""
    both = facts + more
    both[2], both[3] = min(facts[2], more[2]), max(facts[3], more[3])
    return both


NO_FACTS = np.array([0, 0, np.inf, -np.inf, 0, 0, 0], np.float64)
"""Those of nothing."""


def summarised(numbers: np.ndarray, counts: np.ndarray, sums: Sums) -> Values:
    """From finite numbers, or middles of bins, and how many there are of each."""
    finite = int(counts.sum())
    about: dict[str, Any] = {
        "elements": finite + sums.nans + sums.infinities, "nans": sums.nans,
        "infinities": sums.infinities, "first_bad": None, "zeros": sums.zeros,
    }  # fmt: skip
    if not finite:
        return Values(
            **about, minimum=None, maximum=None, mean=None, deviation=None, norm=None,
            typical=None, outliers=0, histogram=None,
        )  # fmt: skip
    mean = sums.total / finite
    deviation = max(sums.squares / finite - mean * mean, 0.0) ** 0.5
    if sums.minimum == sums.maximum:
        deviation = 0.0  # and not what rounding leaves
    low = max(sums.minimum, mean - WIDTH * deviation)
    high = min(sums.maximum, mean + WIDTH * deviation)
    far = np.abs(numbers - mean) > FAR * deviation
    return Values(
        **about,
        minimum=sums.minimum,
        maximum=sums.maximum,
        mean=mean,
        deviation=deviation,
        norm=sums.squares**0.5,
        typical=_quantile(np.abs(numbers), counts, TYPICAL),
        outliers=int(counts[far].sum()) if deviation else 0,
        histogram=_histogram(numbers, counts, low, high),
    )


def _quantile(sizes: np.ndarray, counts: np.ndarray, share: float) -> float:
    """The least size that is not below `share` of all."""
    order = np.argsort(sizes, kind="stable")
    upto = np.cumsum(counts[order])
    return float(sizes[order[np.searchsorted(upto, share * upto[-1])]])


def _histogram(numbers: np.ndarray, counts: np.ndarray, low: float, high: float) -> Histogram:
    if high <= low:
        return Histogram(low, high, (int(counts.sum()),))
    inside = (numbers >= low) & (numbers <= high)
    place = (numbers[inside] - low) / (high - low) * BINS
    bins = np.minimum(place.astype(np.int64), BINS - 1)
    found = np.bincount(bins, weights=counts[inside], minlength=BINS)
    return Histogram(low, high, tuple(int(n) for n in found))
