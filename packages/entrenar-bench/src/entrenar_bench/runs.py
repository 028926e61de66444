"""What came of the runs of a plan: their metrics by arm and seed, and those that failed."""

from __future__ import annotations

import csv
import io
import math
import os
import statistics
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from entrenar_bench.study import Plan, Status, Study, Trial
from entrenar_bench.study.records import run_id
from entrenar_common.errors import ConfigError, RefusedError, SweepError
from entrenar_common.text import nearest
from entrenar_core.io import files

__all__ = ["Runs"]

_SHOWN_ERRORS = 5
_COLUMNS = ("arm", "config", "seed", "run", "status", "error")


@dataclass(frozen=True)
class Runs:
    """The runs of `plan`, in the order of its arms and seeds, with the metrics of those that are
    finished by the run's name; `stopped` says why a study gave out no more."""

    plan: Plan
    trials: tuple[Trial, ...]
    measured: Mapping[str, Mapping[str, float]]
    stopped: str | None = None

    @classmethod
    def of(cls, study: Study, plan: Plan, *, stopped: str | None = None) -> Runs:
        """Those of `plan` alone, where a study was edited and has others too.

        Raises RefusedError where the study lacks some: another driver has edited it meanwhile.
        """
        held = {trial.run: trial for trial in study.trials()}
        wanted = [run_id(arm.config, seed) for arm in plan.arms for seed in plan.seeds]
        lost = sum(run not in held or held[run].status is Status.DROPPED for run in wanted)
        if lost:
            raise RefusedError(
                f"{study.path}: {lost} runs of the plan were dropped by another process",
                hint="let one command at a time edit a study, then run this one again",
            )
        measured = study.measured()
        done = {run: measured[run] for run in wanted if run in measured}
        return cls(plan, tuple(held[run] for run in wanted), done, stopped)

    @property
    def metrics(self) -> tuple[str, ...]:
        """The names of what any finished run has, in alphabetical order."""
        return tuple(sorted({name for found in self.measured.values() for name in found}))

    def values(self, metric: str) -> dict[str, dict[int, float]]:
        """A metric of the finished runs: of each arm, none left out, by seed."""
        found: dict[str, dict[int, float]] = {arm.name: {} for arm in self.plan.arms}
        for trial in self.trials:
            value = self.measured.get(trial.run, {}).get(metric)
            if value is not None:
                found[trial.arm][trial.seed] = value
        return found

    def failed(self, arm: str) -> int:
        """How many runs of an arm have failed."""
        return sum(t.arm == arm and t.status is Status.FAILED for t in self.trials)

    @property
    def ended(self) -> bool:
        """Whether no run waits or is under way."""
        return not any(t.status in (Status.WAITING, Status.RUNNING) for t in self.trials)

    @property
    def pruned(self) -> tuple[str, ...]:
        """The arms that were not given all seeds, because they were not among the best."""
        return tuple(dict.fromkeys(t.arm for t in self.trials if t.status is Status.PRUNED))

    def means(self, metric: str, seeds: Collection[int]) -> dict[str, float]:
        """The mean over `seeds` of each arm whose runs of them are all finished and finite."""
        found = {arm: [v for s, v in by.items() if s in seeds]
                 for arm, by in self.values(metric).items()}  # fmt: skip
        return {arm: statistics.fmean(values) for arm, values in found.items()
                if len(values) == len(seeds) and all(map(math.isfinite, values))}  # fmt: skip

    def check_metric(self, metric: str) -> None:
        """Raise ConfigError for a metric that no finished run has, if any run is finished."""
        if not self.measured or metric in self.metrics:
            return
        guess = nearest(metric, self.metrics)
        raise ConfigError(
            f"no run has the metric {metric!r}" + (f"; did you mean {guess}?" if guess else ""),
            hint=f"the runs are kept, so the same command with another metric shows it at once: "
            f"{', '.join(self.metrics)}",
        )

    def check_whole(self) -> None:
        """Raise SweepError where runs have failed, or were not begun because the first ones had."""
        failed = [trial for trial in self.trials if trial.status is Status.FAILED]
        pruned = sum(trial.status is Status.PRUNED for trial in self.trials)
        undone = len(self.trials) - len(failed) - len(self.measured) - pruned
        if not failed and not undone:
            return
        errors = dict.fromkeys(t.error for t in failed if t.error)
        details = [*([self.stopped] if self.stopped else []), *errors][:_SHOWN_ERRORS]
        raise SweepError(
            f"{len(failed)} of {len(self.trials)} runs failed"
            + (f", and {undone} were not begun" if undone else ""),
            hint="mend what they say and run the same command with --retry-failed: finished runs "
            "are kept",
            details=details,
        )

    def write_csv(self, path: str | os.PathLike[str]) -> None:
        """Write a row for each run, with the hash of its configuration and every metric."""
        text = io.StringIO()
        table = csv.writer(text, lineterminator="\n")
        table.writerow([*_COLUMNS, *self.metrics])
        for trial in self.trials:
            found = self.measured.get(trial.run, {})
            row = [trial.arm, trial.id, trial.seed, trial.run, trial.status.value, trial.error]
            table.writerow([*row, *(found.get(name) for name in self.metrics)])
        files.write_text(path, text.getvalue())
