"""Whether a difference is too small to matter: two one-sided tests (TOST)."""

from __future__ import annotations

import math

import numpy as np
from scipy import special

from entrenar_bench.statistics.sample import Floats
from entrenar_bench.statistics.t_tests import TTest
from entrenar_common.errors import ConfigError

__all__ = ["check_margin", "equivalence_p"]


def equivalence_p(test: TTest, *, margin: float) -> Floats:
    """The p of a difference being outside ±margin: the larger of two one-sided p values.

    `test` is a paired or Welch t test. p < α exactly where its interval of confidence 1 − 2α is
    inside the margin. Raises ConfigError for a margin that is not a positive number. Source:
    Schuirmann, "A comparison of the two one-sided tests procedure" (1987).
    """
    check_margin(margin)
    with np.errstate(invalid="ignore"):
        below = special.stdtr(test.df, -(test.estimate + margin) / test.error)
        above = special.stdtr(test.df, (test.estimate - margin) / test.error)
    return np.maximum(below, above)


def check_margin(margin: float) -> None:
    """Raise ConfigError for a margin that is not a positive number."""
    if not (math.isfinite(margin) and margin > 0):
        raise ConfigError(
            f"margin {margin:g} is not a positive number",
            hint="say how large a difference may be and still not matter, in units of the metric",
        )
