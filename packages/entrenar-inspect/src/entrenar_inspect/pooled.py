"""The values of several tensors as those of one."""

from collections.abc import Sequence
from math import sqrt

import numpy as np

from entrenar_inspect.distribution import BINS, Histogram, Values


def pooled(several: Sequence[Values | None]) -> Values | None:
    """The figures of all numbers of several tensors together; None where one's are not known.

    Moments, extremes and counts are exact; outliers are those of each tensor by itself, `typical`
    is the largest of theirs, and a bin of a histogram falls as a whole into the one where its
    middle is.
    """
    known = [values for values in several if values is not None]
    if not known or len(known) < len(several):
        return None
    if len(known) == 1:
        return known[0]
    full = [values for values in known if values.mean is not None]
    mean, variance = _moments(full) if full else (None, None)
    return Values(
        elements=sum(values.elements for values in known),
        nans=sum(values.nans for values in known),
        infinities=sum(values.infinities for values in known),
        first_bad=None,
        zeros=sum(values.zeros for values in known),
        minimum=min((v.minimum for v in full if v.minimum is not None), default=None),
        maximum=max((v.maximum for v in full if v.maximum is not None), default=None),
        mean=mean,
        deviation=None if variance is None else sqrt(variance),
        norm=sqrt(sum((v.norm or 0.0) ** 2 for v in full)) if full else None,
        typical=max((v.typical for v in full if v.typical is not None), default=None),
        outliers=sum(values.outliers for values in known),
        histogram=_joined([v.histogram for v in full if v.histogram is not None]),
    )


def _moments(full: Sequence[Values]) -> tuple[float, float]:
    """Mean and variance of all numbers, from each tensor's mean and deviation."""
    counts = np.array([values.elements - values.not_finite for values in full], np.float64)
    means = np.array([values.mean for values in full], np.float64)
    spreads = np.array([values.deviation for values in full], np.float64)
    mean = float(means @ counts / counts.sum())
    return mean, float((spreads**2 + (means - mean) ** 2) @ counts / counts.sum())


def _joined(several: Sequence[Histogram]) -> Histogram | None:
    if not several:
        return None
    low, high = min(h.low for h in several), max(h.high for h in several)
    if high <= low:
        return Histogram(low, high, (sum(sum(h.counts) for h in several),))
    found = np.zeros(BINS, np.int64)
    for one in several:
        n = len(one.counts)
        middles = one.low + (np.arange(n) + 0.5) * (one.high - one.low) / n
        place = ((middles - low) / (high - low) * BINS).astype(np.int64)
        np.add.at(found, np.clip(place, 0, BINS - 1), one.counts)
    return Histogram(low, high, tuple(found.tolist()))
