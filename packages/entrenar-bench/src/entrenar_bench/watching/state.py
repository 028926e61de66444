"""What there is to show of a study that is driven (pure)."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from entrenar_bench.statistics import Goal
from entrenar_common.plot import Points

__all__ = ["ArmState", "RunState", "StudyState", "better", "format_value"]


@dataclass(frozen=True)
class ArmState:
    """An arm: how many runs are planned, the names of the finished ones, how many are under way and
    failed, what the finished ones have of the metric, and the mean of their seconds, None without
    any."""

    name: str
    planned: int
    runs: tuple[str, ...]
    running: int
    failed: int
    values: tuple[float, ...]
    seconds: float | None

    @property
    def finished(self) -> int:
        """How many runs are finished."""
        return len(self.runs)

    @property
    def mean(self) -> float | None:
        """Of the values; NaN where a run was not finite, None without any."""
        if not self.values:
            return None
        finite = all(map(math.isfinite, self.values))
        return statistics.fmean(self.values) if finite else math.nan

    @property
    def deviation(self) -> float | None:
        """The standard deviation of the values, of n − 1; None below two, or of infinite ones."""
        if len(self.values) < 2 or not all(map(math.isfinite, self.values)):
            return None
        return statistics.stdev(self.values)


@dataclass(frozen=True)
class RunState:
    """A run with its loss over the steps, as points.

    phase, step: what it does now, and how far it is; total: steps of the phase, if that is known;
    rate: steps in a second, as they were last; None before two messages
    """

    arm: str
    seed: int
    phase: str
    step: int
    total: int | None
    rate: float | None
    points: Points


@dataclass(frozen=True)
class StudyState:
    """A study at a moment.

    elapsed: seconds since it was opened here; left: an estimate of what it still takes, None
    before a run is finished; ended: the last finished runs, newest first; remarks: what failed,
    and what was written to standard error
    """

    name: str
    metric: str
    goal: Goal
    elapsed: float
    left: float | None
    arms: tuple[ArmState, ...]
    running: tuple[RunState, ...]
    ended: tuple[RunState, ...]
    remarks: Sequence[str] = ()

    @property
    def planned(self) -> int:
        """All runs."""
        return sum(arm.planned for arm in self.arms)

    @property
    def failed(self) -> int:
        """Runs that have failed."""
        return sum(arm.failed for arm in self.arms)

    @property
    def done(self) -> int:
        """Runs that have finished or failed."""
        return sum(arm.finished for arm in self.arms) + self.failed

    @property
    def best(self) -> ArmState | None:
        """The arm with the best mean so far, of however many runs; None where none is finite."""
        return next(iter(better(self.arms, self.goal)), None)


def better(arms: Sequence[ArmState], goal: Goal) -> list[ArmState]:
    """The arms whose mean is finite, the best first."""
    found = [(arm.mean, arm) for arm in arms if arm.mean is not None and math.isfinite(arm.mean)]
    found.sort(key=lambda pair: pair[0], reverse=goal == "higher")
    return [arm for _, arm in found]


def format_value(value: float | None) -> str:
    """A value of a metric as tables have it."""
    return "–" if value is None else f"{value:.4f}"
