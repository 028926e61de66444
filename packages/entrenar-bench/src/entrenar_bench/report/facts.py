"""What a report says of a study, before it is written down: plain data, without a clock."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from entrenar_bench.statistics import Comparisons, FactorialEffects, Goal

__all__ = ["Arm", "Parameter", "Run", "RunState", "StudyFacts"]

RunState = Literal["done", "failed", "unfinished", "pruned"]


@dataclass(frozen=True)
class Arm:
    """One configuration that is run over several seeds; `config` is flat, of JSON's values."""

    name: str
    config: Mapping[str, Any]

    @property
    def digest(self) -> str:
        """SHA-256 of the configuration as JSON with sorted keys."""
        text = json.dumps(self.config, sort_keys=True, ensure_ascii=True)
        return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True)
class Run:
    """An arm with a seed, and what came of it.

    metrics:  its results, the same in every equal run; readings: those of the machine (seconds,
              bytes, joules), which are not
    curve:    (step, loss), NaN where it was not finite
    place:    which run of the study it was in time, from 1
    """

    arm: str
    seed: int
    state: RunState = "done"
    metrics: Mapping[str, float] = field(default_factory=dict)
    curve: Sequence[tuple[int, float]] = ()
    failure: str = ""
    place: int | None = None
    readings: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Parameter:
    """A setting that was varied, within what bounds or over what values."""

    name: str
    bounds: str


@dataclass(frozen=True)
class StudyFacts:
    """A study as a report needs it.

    metric:      the one that the study decides by; `goal` says which values are better
    comparisons: those made, one family for each metric; `confidence` of the arms' intervals
    effects:     those of a factorial's parts, for each metric
    varies:      what differs between runs of an arm
    axes:        what was searched, as it was written; method: how configurations were chosen there
    space:       the values that the arms have of each setting in which they differ
    drawn:       the arms that are points drawn at random
    criterion:   by what the best was to be chosen, recorded with the runs
    order:       in what order runs were made, in words
    revision:    the commit of the code, `modified` if files differed from it
    energy:      how joules were read, or why they were not
    notes:       what else a reader has to know of how it was made
    made_by:     the commands that made the runs; commands: those that write the report
    """

    title: str
    metric: str
    goal: Goal
    arms: Sequence[Arm]
    runs: Sequence[Run]
    seeds: Sequence[int]
    question: str = ""
    comparisons: Sequence[Comparisons] = ()
    effects: Sequence[FactorialEffects] = ()
    paired: bool = True
    varies: str = "the seed: initialisation, order of data, sampling"
    axes: Sequence[str] = ()
    method: str = ""
    space: Sequence[Parameter] = ()
    drawn: Sequence[str] = ()
    criterion: str = ""
    order: str = ""
    hardware: Mapping[str, str] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    revision: str | None = None
    modified: bool = False
    energy: str = ""
    notes: Sequence[str] = ()
    made_by: Sequence[str] = ()
    commands: Sequence[str] = ()
    confidence: float = 0.95

    def runs_of(self, arm: str) -> list[Run]:
        """The runs of an arm, in the order of their seeds."""
        return sorted((run for run in self.runs if run.arm == arm), key=lambda run: run.seed)

    def values_of(self, arm: str, metric: str) -> dict[int, float]:
        """The finite results of an arm's finished runs by their seed."""
        return {
            run.seed: run.metrics[metric]
            for run in self.runs_of(arm)
            if run.state == "done" and math.isfinite(run.metrics.get(metric, math.nan))
        }

    @property
    def metrics(self) -> list[str]:
        """All metrics that a run has, the deciding one first."""
        found = {name for run in self.runs for name in run.metrics}
        return [self.metric, *sorted(found - {self.metric})]

    @property
    def varied(self) -> list[str]:
        """The settings that are not the same in all arms."""
        names = sorted({name for arm in self.arms for name in arm.config})
        return [name for name in names if len({_key(arm.config, name) for arm in self.arms}) > 1]


def _key(config: Mapping[str, Any], name: str) -> str:
    return json.dumps(config[name], sort_keys=True) if name in config else ""
