"""Tests and intervals of Student's t, over the last axis of arrays.

Where they do not apply (fewer than two runs, no variance, NaN) every figure but the estimate is
NaN.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from entrenar_bench.statistics.sample import Floats, as_runs
from entrenar_common.errors import ShapeError

__all__ = ["TTest", "differences", "interval", "paired_t", "two_sided_p", "welch_t"]


class TTest(NamedTuple):
    """An estimate with its interval, and the two-sided p of its being 0; arrays of shape (...)."""

    estimate: Floats
    error: Floats
    df: Floats
    t: Floats
    p: Floats
    low: Floats
    high: Floats


def differences(a: ArrayLike, b: ArrayLike) -> Floats:
    """a − b of runs that belong together. Raises ShapeError where there are not as many of each."""
    left, right = as_runs(a), as_runs(b)
    if left.shape != right.shape:
        raise ShapeError(
            f"{left.shape} runs are paired with {right.shape}",
            hint="give both arms the same seeds, or compare them as independent runs",
        )
    with np.errstate(invalid="ignore"):
        return left - right


def paired_t(a: ArrayLike, b: ArrayLike, *, confidence: float = 0.95) -> TTest:
    """The mean of a − b over runs of shape (..., n) with the same seeds; n − 1 degrees of freedom.

    >>> test = paired_t([3.0, 5.0, 7.0], [1.0, 4.0, 4.0])
    >>> round(float(test.estimate), 6), round(float(test.p), 4)
    (2.0, 0.0742)
    """
    return interval(differences(a, b), confidence=confidence)


def interval(values: ArrayLike, *, confidence: float = 0.95) -> TTest:
    """The mean of runs of shape (..., n) with its t interval."""
    runs = as_runs(values)
    n = runs.shape[-1]
    mean, variance = _mean(runs), _variance(runs)
    return _t_test(mean, np.sqrt(variance / max(n, 1)), np.full(mean.shape, n - 1.0), confidence)


def welch_t(a: ArrayLike, b: ArrayLike, *, confidence: float = 0.95) -> TTest:
    """The difference of means of independent runs of shape (..., n) and (..., m), whose variances
    may differ; degrees of freedom as Satterthwaite has them.

    Source: Welch, "The generalization of 'Student's' problem" (Biometrika 34, 1947).
    """
    left, right = as_runs(a), as_runs(b)
    n, m = left.shape[-1], right.shape[-1]
    u, v = _variance(left) / max(n, 1), _variance(right) / max(m, 1)
    with np.errstate(invalid="ignore", divide="ignore"):
        df = (u + v) ** 2 / (u**2 / (n - 1) + v**2 / (m - 1)) if min(n, m) > 1 else u * np.nan
    return _t_test(_mean(left) - _mean(right), np.sqrt(u + v), df, confidence)


def two_sided_p(t: ArrayLike, df: ArrayLike) -> Floats:
    """The probability of a t at least as far from 0.

    >>> round(float(two_sided_p(2.776, 4)), 5)
    0.05002
    """
    return 2 * special.stdtr(np.asarray(df, np.float64), -np.abs(np.asarray(t, np.float64)))


def _t_test(estimate: Floats, error: Floats, df: Floats, confidence: float) -> TTest:
    error = np.where(error > 0, error, np.nan)
    with np.errstate(invalid="ignore"):
        t = estimate / error
        reach = special.stdtrit(df, (1 + confidence) / 2) * error
    return TTest(estimate, error, df, t, two_sided_p(t, df), estimate - reach, estimate + reach)


def _mean(runs: Floats) -> Floats:
    with np.errstate(invalid="ignore"):
        return runs.mean(-1) if runs.shape[-1] else np.full(runs.shape[:-1], np.nan)


def _variance(runs: Floats) -> Floats:
    """Unbiased; NaN of fewer than two runs."""
    if runs.shape[-1] < 2:
        return np.full(runs.shape[:-1], np.nan)
    with np.errstate(invalid="ignore"):
        return runs.var(-1, ddof=1)
