"""The noncentral t distribution: what a t statistic does when the effect is not 0."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike
from scipy import optimize, special

from entrenar_bench.statistics.sample import Floats

__all__ = ["cdf", "limits", "rejects"]

_HUGE = 1e4
"""A t beyond this is its noncentrality times a scale: the normal part of it is nothing beside."""


def rejects(noncentrality: float, df: float, critical: ArrayLike) -> Floats:
    """The probability of |t| > `critical` with so many degrees of freedom."""
    size = abs(noncentrality)  # the tails of a negative one are those of its opposite
    edge = np.asarray(critical, np.float64)
    return np.clip(1 - cdf(edge, df, size) + cdf(-edge, df, size), 0.0, 1.0)


def cdf(t: ArrayLike, df: float, noncentrality: float) -> Floats:
    """P(T ≤ t) for a noncentrality of at least 0; scipy has NaN for what is below 1e-12."""
    found = special.nctdtr(df, noncentrality, t)
    return np.where(np.isnan(found), 0.0, found)


def limits(t: float, df: float, *, confidence: float) -> tuple[float, float]:
    """The noncentralities under which `t` is at the upper and the lower edge of what is expected:
    the interval of the noncentrality, NaN where t is.

    Source: Steiger and Fouladi, "Noncentrality interval estimation" (1997).
    """
    if not np.isfinite(t):
        return float("nan"), float("nan")
    tail = (1 - confidence) / 2
    if abs(t) > _HUGE:
        edges = [t * _scale(df, share) for share in (tail, 1 - tail)]
        return min(edges), max(edges)
    return _with_share(t, df, 1 - tail), _with_share(t, df, tail)


def _with_share(t: float, df: float, share: float) -> float:
    """The noncentrality for which P(T ≤ t) is `share`; it falls from 1 to 0 as that grows."""

    def miss(noncentrality: float) -> float:
        return _cdf(t, df, noncentrality) - share

    low, high, step = t - 1.0, t + 1.0, 2.0
    while miss(low) < 0:
        low, step = low - step, 2 * step
    step = 2.0
    while miss(high) > 0:
        high, step = high + step, 2 * step
    return float(optimize.brentq(miss, low, high, xtol=1e-10))


def _cdf(t: float, df: float, noncentrality: float) -> float:
    """P(T ≤ t), by its mirror where the noncentrality is negative."""
    if noncentrality < 0:
        return 1 - float(cdf(-t, df, -noncentrality))
    return float(cdf(t, df, noncentrality))


def _scale(df: float, share: float) -> float:
    """The quantile of √(χ²/df), by which a noncentrality that is far from 0 divides into t."""
    return math.sqrt(2 * float(special.gammaincinv(df / 2, share)) / df)
