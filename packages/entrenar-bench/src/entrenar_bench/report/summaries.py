"""The runs of each arm in a few numbers."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from entrenar_bench.report.document import DotRow
from entrenar_bench.report.facts import Arm, StudyFacts
from entrenar_bench.statistics import interval

__all__ = ["ArmSummary", "best", "summaries"]


@dataclass(frozen=True)
class ArmSummary:
    """An arm on one metric: over its n finite results, beside which `failed`, `not_finite`,
    `unfinished` and `pruned` runs are counted. SD is that of runs (n − 1), the interval of the
    mean."""

    arm: Arm
    values: dict[int, float]
    mean: float
    sd: float
    low: float
    high: float
    failed: int
    not_finite: int
    unfinished: int
    pruned: int

    @property
    def n(self) -> int:
        """How many runs the figures are over."""
        return len(self.values)

    @property
    def row(self) -> DotRow:
        """The arm in a figure."""
        missing = self.failed + self.not_finite + self.unfinished
        points = list(self.values.items())
        return DotRow(self.arm.name, points, self.mean, self.low, self.high, missing)


def summaries(facts: StudyFacts, metric: str) -> list[ArmSummary]:
    """Each arm of the study, in its order."""
    return [_summary(facts, arm, metric) for arm in facts.arms]


def best(facts: StudyFacts) -> ArmSummary | None:
    """The arm with the best mean of the deciding metric, of those that were not pruned; None where
    no run has one."""
    found = [each for each in summaries(facts, facts.metric) if each.n and not each.pruned]
    sign = 1 if facts.goal == "lower" else -1
    return min(found, key=lambda each: sign * each.mean) if found else None


def _summary(facts: StudyFacts, arm: Arm, metric: str) -> ArmSummary:
    values = facts.values_of(arm.name, metric)
    states = [run.state for run in facts.runs_of(arm.name)]
    found = interval(list(values.values()), confidence=facts.confidence)
    spread = float(np.std(list(values.values()), ddof=1)) if len(values) > 1 else math.nan
    return ArmSummary(
        arm,
        values,
        mean=float(found.estimate),
        sd=spread,
        low=float(found.low),
        high=float(found.high),
        failed=states.count("failed"),
        not_finite=states.count("done") - len(values),
        unfinished=states.count("unfinished"),
        pruned=states.count("pruned"),
    )
