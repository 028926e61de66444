"""Tests that assume no distribution, with exact p values for few runs.

Their p cannot be smaller than the share of one arrangement of signs or ranks, so with few runs no
difference, however large, can be significant: `smallest` says so.
"""

from __future__ import annotations

import functools
import itertools
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from entrenar_bench.statistics.sample import Floats, as_runs

__all__ = [
    "MOST_PAIRS",
    "MOST_RUNS",
    "ExactTest",
    "fewest_pairs",
    "fewest_runs",
    "mann_whitney",
    "sign_flip",
    "sign_flip_p",
]

MOST_PAIRS = 20
"""Pairs up to which all 2ⁿ signs are tried."""

MOST_RUNS = 60
"""Runs of both arms together up to which ranks are counted out."""

_ROUNDING = 1e-12
"""Sums that differ by this share of all differences are equal: the order of adding decides it."""


@dataclass(frozen=True)
class ExactTest:
    """A two-sided p, the smallest that so many runs can give, and how many `alpha` takes."""

    name: str
    p: float
    smallest: float
    alpha: float
    fewest: int
    unit: str

    @property
    def can_be_significant(self) -> bool:
        """Whether any outcome of so many runs would be."""
        return self.smallest <= self.alpha

    @property
    def note(self) -> str | None:
        """What the number of runs rules out, None where it rules out nothing."""
        if self.can_be_significant:
            return None
        return (
            f"{self.name}: p is at least {self.smallest:.3g} with so few {self.unit}, so it can "
            f"never reach {self.alpha:g}; needs >= {self.fewest} {self.unit}"
        )


def sign_flip(differences: ArrayLike, *, alpha: float = 0.05) -> ExactTest | None:
    """Whether the mean of paired differences of shape (n,) is 0, if its signs were chance: the
    share of all 2ⁿ choices of signs whose |mean| is at least the observed one.

    None for no pairs or more than MOST_PAIRS. Source: Fisher, "The Design of Experiments" (1935),
    section 21.

    >>> sign_flip([1.0, 2.0, 3.0]).p
    0.25
    """
    runs = as_runs(differences)
    n = runs.size
    if not 0 < n <= MOST_PAIRS or not np.isfinite(runs).all():
        return None
    p = float(sign_flip_p(runs))
    return ExactTest("sign-flip test", p, 2.0 ** (1 - n), alpha, fewest_pairs(alpha), "pairs")


def sign_flip_p(differences: ArrayLike) -> Floats:
    """The p values of `sign_flip` for differences of shape (..., n); memory grows with 2ⁿ."""
    runs = as_runs(differences)
    sums = runs[..., :1]  # (..., 1): the first sign stays, since −x is as far from 0 as x
    for i in range(1, runs.shape[-1]):
        one = runs[..., i : i + 1]
        sums = np.concatenate([sums + one, sums - one], -1)  # (..., 2ⁱ)
    least = np.abs(runs.sum(-1, keepdims=True)) - _ROUNDING * np.abs(runs).sum(-1, keepdims=True)
    return (np.abs(sums) >= least).mean(-1)


def fewest_pairs(alpha: float = 0.05) -> int:
    """The pairs from which on a sign-flip test can reach `alpha`.

    >>> fewest_pairs(0.05)
    6
    """
    return max(1, math.ceil(1 - math.log2(alpha)))


def mann_whitney(a: ArrayLike, b: ArrayLike, *, alpha: float = 0.05) -> ExactTest | None:
    """Whether independent runs of shapes (n,) and (m,) come from one distribution: twice the
    smaller tail of the rank sum over all choices of n of the n + m ranks; ties share the mean of
    theirs.

    None where an arm is empty or both have more than MOST_RUNS runs. Source: Mann and Whitney, "On
    a test of whether one of two random variables is stochastically larger than the other" (1947).

    >>> round(mann_whitney([1, 2, 3, 4], [5, 6, 7, 8]).p, 4)
    0.0286
    """
    left, right = as_runs(a), as_runs(b)
    n, m = left.size, right.size
    together = np.concatenate([left, right])
    if not (n and m and n + m <= MOST_RUNS and np.isfinite(together).all()):
        return None
    ranks = _doubled_ranks(together)
    below, above = _tails(tuple(sorted(ranks)), n)
    observed = sum(ranks[:n])
    p = min(1.0, 2 * min(below[observed], above[observed]))
    smallest = 2 / math.comb(n + m, n)
    return ExactTest("Mann-Whitney test", p, smallest, alpha, fewest_runs(alpha), "runs per arm")


def fewest_runs(alpha: float = 0.05) -> int:
    """The runs of each arm from which on a Mann-Whitney test can reach `alpha`.

    >>> fewest_runs(0.05)
    4
    """
    return next(n for n in itertools.count(1) if 2 / math.comb(2 * n, n) <= alpha)


def _doubled_ranks(values: Floats) -> list[int]:
    """Twice the mean rank of each value, which is a whole number, ties or not."""
    order = np.sort(values)
    first, last = np.searchsorted(order, values), np.searchsorted(order, values, side="right")
    return [int(rank) for rank in first + last + 1]


@functools.lru_cache(maxsize=64)
def _tails(ranks: tuple[int, ...], n: int) -> tuple[Floats, Floats]:
    """P(sum ≤ s) and P(sum ≥ s) of the sum of n of `ranks`, for every s up to their total."""
    ways = np.zeros((n + 1, sum(ranks) + 1))  # ways[k, s]: choices of k ranks with the sum s
    ways[0, 0] = 1
    for rank in ranks:
        ways[1:, rank:] += ways[:-1, : ways.shape[1] - rank].copy()
    share = ways[n] / math.comb(len(ranks), n)
    return np.cumsum(share), np.cumsum(share[::-1])[::-1]
