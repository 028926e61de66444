"""How likely a real effect is to be found with so many runs, and how many runs find it."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from scipy import special

from entrenar_bench.statistics.noncentral import rejects
from entrenar_common.errors import ConfigError

__all__ = [
    "MOST_SEEDS",
    "paired_power",
    "paired_seeds",
    "welch_power",
    "welch_seeds",
]

MOST_SEEDS = 10_000
"""Beyond so many seeds none are counted out."""

_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(24)


def paired_power(effect: float, n: int, *, alpha: float = 0.05) -> float:
    """The probability that a paired t test of n pairs finds an effect of so many standard
    deviations of the differences (d_z).

    >>> round(paired_power(1.68, 5), 2)
    0.8
    """
    _check(alpha)
    if n < 2 or not math.isfinite(effect):
        return math.nan
    return float(rejects(effect * math.sqrt(n), n - 1, special.stdtrit(n - 1, 1 - alpha / 2)))


def welch_power(effect: float, n: int, *, alpha: float = 0.05) -> float:
    """The probability that a Welch test of n runs in each arm finds an effect of so many standard
    deviations of a run, which is the same in both arms.

    Welch's degrees of freedom depend on the share s_a²/(s_a² + s_b²) alone, which is beta
    distributed and independent of t: the power is the mean over its quantiles.

    >>> round(welch_power(2.1, 5), 2)
    0.8
    """
    _check(alpha)
    if n < 2 or not math.isfinite(effect):
        return math.nan
    half = (n - 1) / 2
    share = special.betaincinv(half, half, (_NODES + 1) / 4)  # up to 1/2: the rest is its mirror
    df = (n - 1) / (share**2 + (1 - share) ** 2)
    found = rejects(effect * math.sqrt(n / 2), 2 * n - 2, special.stdtrit(df, 1 - alpha / 2))
    return float(np.dot(_WEIGHTS, found) / 2)


def paired_seeds(effect: float, *, power: float = 0.8, alpha: float = 0.05) -> int | None:
    """The fewest pairs with which a paired t test has the power; None beyond MOST_SEEDS.

    >>> paired_seeds(1.0)
    10
    """
    return _fewest(lambda n: paired_power(effect, n, alpha=alpha), effect, power)


def welch_seeds(effect: float, *, power: float = 0.8, alpha: float = 0.05) -> int | None:
    """The fewest runs of each arm with which a Welch test has the power; None beyond MOST_SEEDS."""
    return _fewest(lambda n: welch_power(effect, n, alpha=alpha), effect, power)


def _fewest(power_of: Callable[[int], float], effect: float, wanted: float) -> int | None:
    if not math.isfinite(effect) or effect == 0:
        return None
    high = 2
    while power_of(high) < wanted:
        if high >= MOST_SEEDS:
            return None
        high = min(2 * high, MOST_SEEDS)
    low = high // 2  # does not do, or is 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if power_of(middle) >= wanted else (middle, high)
    return high


def _check(alpha: float) -> None:
    if not 0 < alpha < 1:
        raise ConfigError(
            f"alpha {alpha:g} is not between 0 and 1", hint="0.05 is the usual error rate"
        )
