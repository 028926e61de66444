"""What came of the runs of a plan: their metrics by arm and seed, and those that failed."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Mapping
from dataclasses import dataclass

from entrenar_bench.study import Plan, Status, Study, Trial
from entrenar_bench.study.records import run_id
from entrenar_common.errors import ConfigError, SweepError
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
        """Those of `plan` alone, where a study was edited and has others too."""
        held = {trial.run: trial for trial in study.trials()}
        wanted = [run_id(arm.config, seed) for arm in plan.arms for seed in plan.seeds]
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
        undone = len(self.trials) - len(failed) - len(self.measured)
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
