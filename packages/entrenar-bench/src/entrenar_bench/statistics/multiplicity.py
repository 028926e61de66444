"""p values of several comparisons that are looked at together."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from entrenar_bench.statistics.sample import Floats

__all__ = ["CORRECTIONS", "benjamini_hochberg", "holm"]


def holm(p: ArrayLike) -> Floats:
    """Adjusted p of shape (..., m): below α with probability α at most if no effect is real.

    A NaN is no test and counts as none. Source: Holm, "A simple sequentially rejective multiple
    test procedure" (1979).

    >>> [round(float(x), 6) for x in holm([0.01, 0.04, 0.03])]
    [0.03, 0.06, 0.06]
    """
    values = np.asarray(p, np.float64)
    order = np.argsort(values, -1)  # NaN comes last
    tests = np.isfinite(values).sum(-1, keepdims=True)
    factors = np.maximum(tests - np.arange(values.shape[-1]), 1)
    raised = np.take_along_axis(values, order, -1) * factors
    return _in_place_of(np.minimum(np.maximum.accumulate(raised, -1), 1.0), order)


def benjamini_hochberg(p: ArrayLike) -> Floats:
    """Adjusted p of shape (..., m): of those below α a share of α at most is expected to be false.

    A NaN is no test and counts as none. Source: Benjamini and Hochberg, "Controlling the false
    discovery rate" (1995).

    >>> [round(float(x), 6) for x in benjamini_hochberg([0.01, 0.04, 0.03])]
    [0.03, 0.04, 0.04]
    """
    values = np.asarray(p, np.float64)
    order = np.argsort(values, -1)
    tests = np.isfinite(values).sum(-1, keepdims=True)
    raised = np.take_along_axis(values, order, -1) * tests / np.arange(1, values.shape[-1] + 1)
    falling = np.fmin.accumulate(raised[..., ::-1], -1)[..., ::-1]
    falling = np.where(np.isnan(raised), np.nan, falling)
    return _in_place_of(np.minimum(falling, 1.0), order)


CORRECTIONS = {"holm": holm, "bh": benjamini_hochberg}
"""Corrections by the name that they are asked for."""


def _in_place_of(sorted_values: Floats, order: np.ndarray) -> Floats:
    out = np.empty_like(sorted_values)
    np.put_along_axis(out, order, sorted_values, -1)
    return out
