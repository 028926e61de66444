"""How large a difference is, in standard deviations and as a probability, with intervals."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from entrenar_bench.statistics.noncentral import limits
from entrenar_bench.statistics.proportion import clopper_pearson
from entrenar_bench.statistics.sample import as_runs
from entrenar_bench.statistics.t_tests import differences

__all__ = ["Effect", "correction", "d_av", "d_z", "hedges_g", "superiority", "wins"]


@dataclass(frozen=True)
class Effect:
    """The size of an effect with its interval; NaN where nothing varies."""

    name: str
    value: float
    low: float
    high: float


def correction(df: float) -> float:
    """Hedges' J, which takes out the bias that Cohen's d has in small samples.

    J = Γ(df/2) / (√(df/2) Γ((df − 1)/2)), about 1 − 3/(4 df − 1).

    >>> round(correction(8), 3)
    0.903
    """
    if df <= 1:
        return math.nan
    return math.exp(math.lgamma(df / 2) - math.lgamma((df - 1) / 2)) / math.sqrt(df / 2)


def hedges_g(a: ArrayLike, b: ArrayLike, *, confidence: float = 0.95) -> Effect:
    """The difference of means of independent runs over their pooled standard deviation, times J.

    The interval inverts the noncentral t. Source: Hedges, "Distribution theory for Glass's
    estimator of effect size and related estimators" (1981).
    """
    left, right = as_runs(a), as_runs(b)
    n, m = left.size, right.size
    df = n + m - 2
    if min(n, m) < 2:
        return _unknown("Hedges g")
    pooled = math.sqrt(((n - 1) * left.var(ddof=1) + (m - 1) * right.var(ddof=1)) / df)
    scale = math.sqrt(1 / n + 1 / m)
    t = _ratio(float(left.mean() - right.mean()), pooled * scale)
    return _effect("Hedges g", t, df, scale, confidence)


def d_z(a: ArrayLike, b: ArrayLike, *, confidence: float = 0.95) -> Effect:
    """The mean of paired differences over their own standard deviation, times J: what the power of
    a paired test depends on."""
    apart = differences(a, b)
    n = apart.size
    if n < 2:
        return _unknown("d_z")
    scale = 1 / math.sqrt(n)
    t = _ratio(float(apart.mean()), float(apart.std(ddof=1)) * scale)
    return _effect("d_z", t, n - 1, scale, confidence)


def d_av(a: ArrayLike, b: ArrayLike, *, confidence: float = 0.95) -> Effect:
    """The mean of paired differences over the standard deviation of runs, times J: of the size that
    independent runs would show.

    d_av = mean(a − b) / √((s_a² + s_b²)/2). Source of the interval: Algina and Keselman,
    "Approximate confidence intervals for effect sizes" (2003).
    """
    apart, n = differences(a, b), as_runs(a).size
    if n < 2:
        return _unknown("d_av")
    error = float(apart.std(ddof=1)) / math.sqrt(n)
    runs = math.sqrt((as_runs(a).var(ddof=1) + as_runs(b).var(ddof=1)) / 2)
    return _effect(
        "d_av", _ratio(float(apart.mean()), error), n - 1, _ratio(error, runs), confidence
    )


def wins(a: ArrayLike, b: ArrayLike, *, confidence: float = 0.95) -> Effect:
    """P(a > b) at the same seed: the share of pairs in which a is larger, a tie counting half, with
    the interval of Clopper and Pearson, a half won making it wider on both sides."""
    apart = differences(a, b)
    n = apart.size
    if not n or not np.isfinite(apart).all():
        return _unknown("P(a > b)")
    won = float((apart > 0).sum() + (apart == 0).sum() / 2)
    return Effect("P(a > b)", won / n, *clopper_pearson(won, n, confidence=confidence))


def superiority(a: ArrayLike, b: ArrayLike, *, confidence: float = 0.95) -> Effect:
    """P(a > b) of independent runs, a tie counting half: U/(n m).

    Source of the interval: Newcombe, "Confidence intervals for an effect size measure based on the
    Mann-Whitney statistic. Part 2" (2006), method 5.
    """
    left, right = as_runs(a), as_runs(b)
    n, m = left.size, right.size
    if not (n and m and np.isfinite(left).all() and np.isfinite(right).all()):
        return _unknown("P(a > b)")
    above = np.sign(left[:, None] - right[None, :])  # (n, m)
    share = float((above + 1).mean() / 2)
    z = float(special.ndtri((1 + confidence) / 2))
    low = 1 - _score_limit(1 - share, n, m, z)
    return Effect("P(a > b)", share, low, _score_limit(share, n, m, z))


def _score_limit(share: float, n: int, m: int, z: float) -> float:
    """The largest θ from which `share` is no more than z standard errors of θ away."""
    half = (n + m) / 2 - 1
    low, high = share, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        terms = 1 + half * ((1 - middle) / (2 - middle) + middle / (1 + middle))
        error = math.sqrt(middle * (1 - middle) * terms / (n * m))
        low, high = (middle, high) if middle - share <= z * error else (low, middle)
    return low


def _effect(name: str, t: float, df: float, scale: float, confidence: float) -> Effect:
    """An effect of t × scale: corrected for bias; the interval is that of the noncentrality."""
    low, high = limits(t, df, confidence=confidence)
    value = t * scale
    corrected = value * correction(df) if df > 1 else value
    return Effect(name, corrected, low * scale, high * scale)


def _ratio(value: float, by: float) -> float:
    return value / by if by > 0 else math.nan


def _unknown(name: str) -> Effect:
    return Effect(name, math.nan, math.nan, math.nan)
