"""The interval of a share that was counted."""

from __future__ import annotations

import math

from scipy import special

__all__ = ["clopper_pearson"]


def clopper_pearson(count: float, n: int, *, confidence: float) -> tuple[float, float]:
    """The interval of the probability of what happened `count` times of n; it covers at least what
    it says. A half is taken as nothing for the lower bound, and as one for the upper.

    Source: Clopper and Pearson, "The use of confidence or fiducial limits illustrated in the case
    of the binomial" (Biometrika 26, 1934).

    >>> [round(bound, 3) for bound in clopper_pearson(4, 5, confidence=0.95)]
    [0.284, 0.995]
    """
    tail = (1 - confidence) / 2
    below, above = math.floor(count), math.ceil(count)
    low = float(special.betaincinv(below, n - below + 1, tail)) if below else 0.0
    high = float(special.betaincinv(above + 1, n - above, 1 - tail)) if above < n else 1.0
    return low, high
