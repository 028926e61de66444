"""How good the best of so many random points is expected to be: what a budget buys.

The expected best of k points is estimated by the mean of the best over every choice of k of the n
points that were run, which is unbiased; that of k drawn with replacement is not.
Source: Tang, Lee, Xin, Liu, Yu and Lin, "Showing Your Work Doesn't Always Work" (ACL 2020).
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from entrenar_bench.statistics.sample import Floats, as_runs
from entrenar_bench.statistics.verdict import Goal

__all__ = ["expected_best"]


def expected_best(values: ArrayLike, *, goal: Goal = "lower") -> Floats:
    """The expected best of 1, 2, … n points, of the values (n,) of n points; shape (n,).

    The value of rank i, from the worst, is the best of i − 1 over k − 1 choices of k. NaN where a
    value is not finite.

    >>> expected_best([3.0, 1.0, 2.0]).round(4).tolist()
    [2.0, 1.3333, 1.0]
    """
    found = as_runs(values)
    n = found.size
    if not np.isfinite(found).all():
        return np.full(n, math.nan)
    from_worst = np.sort(found)[::-1] if goal == "lower" else np.sort(found)
    # Quotients of whole numbers: binomials of hundreds of points are beyond floats.
    weights = [[math.comb(i, k - 1) / math.comb(n, k) for i in range(n)] for k in range(1, n + 1)]
    return np.array(weights).reshape(n, n) @ from_worst
