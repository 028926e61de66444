"""Runs as numbers, and what can be said of so many of them at all."""

from __future__ import annotations

import enum
import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from entrenar_common.errors import ShapeError

__all__ = ["Floats", "State", "as_runs", "known", "state_of"]

Floats = NDArray[np.float64]

_ROUNDING = 8 * float(np.finfo(np.float64).eps)
"""A spread below this share of the values comes from rounding them, not from runs."""


class State(enum.Enum):
    """Whether a test applies to runs, and if none does, why."""

    TESTED = "tested"
    TOO_FEW = "fewer than two runs"
    NOT_FINITE = "a run is not finite"
    NO_VARIANCE = "runs do not vary"
    PRUNED = "an arm was pruned"


def as_runs(values: ArrayLike) -> Floats:
    """`values` as float64 of shape (..., runs). Raises ShapeError for a number without an axis."""
    runs = np.asarray(values, np.float64)
    if runs.ndim == 0:
        raise ShapeError(
            f"{values!r} is one number, not runs", hint="give a sequence with a number per run"
        )
    return runs


def state_of(*samples: ArrayLike, scale: float | None = None) -> State:
    """The state of samples of shape (runs,), each of which has to have two finite runs, while one
    of them has to vary by more than rounding.

    `scale` is the size of what differences were taken from, since their rounding is of that size.
    """
    found = [as_runs(sample) for sample in samples]
    if not all(np.isfinite(sample).all() for sample in found):
        return State.NOT_FINITE
    if any(sample.size < 2 for sample in found):
        return State.TOO_FEW
    for sample in found:
        size = float(np.abs(sample).max()) if scale is None else scale
        if float(np.ptp(sample)) > _ROUNDING * size:
            return State.TESTED
    return State.NO_VARIANCE


def known(value: float, form: str) -> str | None:
    """A number as text; None, an empty cell, where no test gave one.

    >>> known(0.25, ".1f"), known(float("nan"), ".1f")
    ('0.2', None)
    """
    return None if math.isnan(value) else format(value, form)
