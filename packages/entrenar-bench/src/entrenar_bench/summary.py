"""What a study of arms shows: a row for each arm, comparisons, and what is left to confirm."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from entrenar_bench.runs import Runs
from entrenar_bench.statistics import (
    Comparison,
    Comparisons,
    FactorialEffects,
    Goal,
    compare_arms,
    factorial_effects,
)
from entrenar_common.tables import Table, Text
from entrenar_common.units import format_count, format_duration

__all__ = ["ArmSummary", "Spread", "Summary", "summarise"]

_BESIDE = ("agreement", "accuracy")
"""Figures that are shown beside the metric where runs have them."""


@dataclass(frozen=True)
class Spread:
    """The mean over an arm's runs and their standard deviation, of n − 1; None below two runs."""

    mean: float
    deviation: float | None


@dataclass(frozen=True)
class ArmSummary:
    """An arm: the hash of its configuration, its runs, and metrics of the finished ones by name;
    `pruned` where it got fewer than its planned runs, because it was not among the best."""

    name: str
    config: str
    planned: int
    finished: int
    failed: int
    metrics: Mapping[str, Spread]
    pruned: bool = False


@dataclass(frozen=True)
class Summary:
    """The arms of a study, compared on `metric`.

    best: the arm with the best mean among those whose runs are all there and finite; comparisons:
    None where no two arms have runs; factorial: the effects of parts, where every combination of
    them was taken out; confirmation: the best against the baseline on fresh seeds.
    """

    title: str
    metric: str
    goal: Goal
    seeds: tuple[int, ...]
    arms: tuple[ArmSummary, ...]
    baseline: str | None
    best: str | None
    comparisons: Comparisons | None
    factorial: FactorialEffects | None
    confirmation: Comparison | None
    notes: tuple[str, ...]

    def confirmed(self, found: Comparison, note: str) -> Summary:
        """The same with a comparison on fresh seeds."""
        return replace(self, confirmation=found, notes=(*self.notes, note))

    def __view__(self) -> Iterator[Any]:
        yield self._table()
        if self.comparisons is not None:
            yield self.comparisons
        if self.factorial is not None:
            yield self.factorial
        if self.confirmation is not None:
            yield Text("On fresh seeds", "title")
            yield self.confirmation
        for note in self.notes:
            yield Text(note)
        yield Text(self._selection())

    def _table(self) -> Table:
        beside = [name for name in _BESIDE if any(name in arm.metrics for arm in self.arms)]
        return Table(
            self.title,
            ["arm", self.metric, "±", *beside, "tokens/s", "time", "runs"],
            [
                [Text(f"{arm.name} *", "good") if arm.name == self.best else arm.name,
                 *_spread_of(arm, self.metric), *(_mean_of(arm, name) for name in beside),
                 *_speed(arm),
                 _counts(arm)]
                for arm in self.arms
            ],
            caption=self._caption(),
        )  # fmt: skip

    def _caption(self) -> str:
        failed, planned = (sum(getattr(arm, n) for arm in self.arms) for n in ("failed", "planned"))
        lost = f"; {failed} of {planned} runs failed" if failed else ""
        early = any(arm.pruned for arm in self.arms)
        pruned = "; pruned: had fewer seeds, and is no candidate" if early else ""
        return (
            f"means over {len(self.seeds)} seeds, ± standard deviation; {self.metric}: {self.goal} "
            f"is better, * best mean{lost}{pruned}"
        )

    def _selection(self) -> str:
        if self.best is None:
            return "No arm has all its runs with finite values, so none is called the best."
        if self.best == self.baseline:
            return f"{self.best}, the baseline, has the best mean of {len(self.arms)} arms."
        if self.confirmation is not None:
            return f"{self.best} was selected on other seeds than it was confirmed on."
        return (
            f"{self.best} is the best of {len(self.arms)}, which is a selection: its mean flatters "
            "it. Confirm it with fresh seeds before it is called better."
        )


def summarise(
    runs: Runs,
    *,
    title: str,
    metric: str,
    goal: Goal,
    baseline: str | None,
    margin: float | None = None,
    notes: tuple[str, ...] = (),
    taken_out: Mapping[str, Sequence[str]] | None = None,
) -> Summary:
    """Every arm of `runs`, each compared with `baseline`, or all pairs where there is none, with p
    values adjusted by Holm's method. `taken_out` has the parts that each arm of a factorial lacks.

    Raises ConfigError for a metric that no run has.
    """
    runs.check_metric(metric)
    values = runs.values(metric)
    with_runs = {arm: found for arm, found in values.items() if found}
    return Summary(
        title,
        metric,
        goal,
        runs.plan.seeds,
        _arms(runs),
        baseline,
        _best(values, len(runs.plan.seeds), goal),
        _compared(with_runs, metric, goal, baseline, margin, runs.pruned),
        factorial_effects(values, taken_out, metric=metric) if taken_out else None,
        None,
        notes,
    )


def _compared(
    runs: Mapping[str, Mapping[int, float]],
    metric: str,
    goal: Goal,
    baseline: str | None,
    margin: float | None,
    pruned: tuple[str, ...],
) -> Comparisons | None:
    if len(runs) < 2 or (baseline is not None and baseline not in runs):
        return None
    return compare_arms(
        runs, metric=metric, goal=goal, baseline=baseline, margin=margin, pruned=pruned
    )


def _best(values: Mapping[str, Mapping[int, float]], seeds: int, goal: Goal) -> str | None:
    means = {
        arm: statistics.fmean(found.values())
        for arm, found in values.items()
        if len(found) == seeds and all(map(math.isfinite, found.values()))
    }
    if not means:
        return None
    return (min if goal == "lower" else max)(means, key=means.__getitem__)


def _arms(runs: Runs) -> tuple[ArmSummary, ...]:
    by_metric = {name: runs.values(name) for name in runs.metrics}
    return tuple(
        ArmSummary(
            arm.name,
            next(trial.id for trial in runs.trials if trial.arm == arm.name),
            len(runs.plan.seeds),
            sum(t.arm == arm.name and t.run in runs.measured for t in runs.trials),
            runs.failed(arm.name),
            {n: _spread(list(v[arm.name].values())) for n, v in by_metric.items() if v[arm.name]},
            arm.name in runs.pruned,
        )
        for arm in runs.plan.arms
    )


def _spread(values: list[float]) -> Spread:
    if not all(map(math.isfinite, values)):  # a run that diverged is a result, and no mean has it
        return Spread(math.nan, None)
    return Spread(statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None)


def _mean_of(arm: ArmSummary, name: str) -> str | None:
    return f"{arm.metrics[name].mean:.4f}" if name in arm.metrics else None


def _spread_of(arm: ArmSummary, name: str) -> tuple[str | None, str | None]:
    deviation = arm.metrics[name].deviation if name in arm.metrics else None
    return _mean_of(arm, name), None if deviation is None else f"{deviation:.2g}"


def _counts(arm: ArmSummary) -> Text:
    pruned = " pruned" if arm.pruned else ""
    return Text(f"{arm.finished}/{arm.planned}{pruned}", "bad" if arm.failed else "")


def _speed(arm: ArmSummary) -> tuple[str | None, str | None]:
    tokens, seconds = arm.metrics.get("tokens_per_s"), arm.metrics.get("seconds")
    return tokens and format_count(tokens.mean), seconds and format_duration(seconds.mean)
