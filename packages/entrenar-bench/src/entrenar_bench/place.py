"""Where and how a study of distillations is carried out: its file, its workers, what is allowed."""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace
from pathlib import Path

from entrenar_bench.growth import Growth
from entrenar_bench.runner import DistillRunner
from entrenar_bench.runs import Runs
from entrenar_bench.study import Plan, Study, Watch, run_trials

__all__ = ["Place", "carry_out"]


@dataclass(frozen=True)
class Place:
    """A study's file, beside which its runs have a folder each in `FILE.runs`.

    jobs: runs at a time; allow_change: go on with the runs that a changed plan has in common with
    the study; retry_failed: do failed runs again.
    """

    file: Path
    jobs: int = 1
    allow_change: bool = False
    retry_failed: bool = False

    @property
    def folder(self) -> str:
        """Of the runs."""
        return f"{self.file}.runs"

    def beside(self, suffix: str, *, allow_change: bool) -> Place:
        """A place for a second study: `a.study` has `a.SUFFIX.study` beside it."""
        name = f"{self.file.stem}.{suffix}{self.file.suffix}"
        return replace(self, file=self.file.with_name(name), allow_change=allow_change)


def carry_out(
    plan: Plan, place: Place, *, growth: Growth | None = None, watch: Watch | None = None
) -> Runs:
    """Do the runs of `plan` that its study has not done, and give all that it has; with `growth`
    also those that are decided on by results, in the plan that it has grown to.

    `watch` is told of everything. Raises InterruptedRun when it is asked to stop: the
    same call goes on; RefusedError for a study of other runs, and what `run_trials` raises.
    """
    plan.check()
    watch = watch or Watch()
    with _opened(plan, place) as study:
        if place.retry_failed:
            study.retry_failed()
        watch.opened(study, plan, jobs=place.jobs)
        more = None if growth is None else functools.partial(growth.more, tell=watch.grew)
        try:
            runner = DistillRunner(place.folder)
            outcome = run_trials(study, runner, jobs=place.jobs, watch=watch, more=more)
        finally:
            watch.closed()
        watch.finished(study)
        return Runs.of(study, growth.plan if growth else plan, stopped=outcome.stopped)


def _opened(plan: Plan, place: Place) -> Study:
    if not place.file.exists():
        return Study.create(place.file, plan)
    return Study.open(place.file, plan, edited="allow" if place.allow_change else "refuse")
