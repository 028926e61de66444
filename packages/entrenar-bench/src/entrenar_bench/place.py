"""Where and how a study of distillations is carried out: its file, its workers, what is allowed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from entrenar_bench.growth import Growth
from entrenar_bench.runner import DistillRunner
from entrenar_bench.runs import Runs
from entrenar_bench.study import Ended, Plan, Status, Study, run_trials
from entrenar_common.progress import NullProgress, Progress
from entrenar_common.units import format_duration

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
    plan: Plan,
    place: Place,
    *,
    growth: Growth | None = None,
    progress: Progress | None = None,
    tell: Callable[[str], None] = lambda _text: None,
) -> Runs:
    """Do the runs of `plan` that its study has not done, and give all that it has; with `growth`
    also those that are decided on by results, in the plan that it has grown to.

    `tell` gets a line for each run that ends. Raises InterruptedRun when it is asked to stop: the
    same call goes on; RefusedError for a study of other runs, and what `run_trials` raises.
    """
    plan.check()
    with _opened(plan, place) as study:
        for note in study.notes:
            tell(note)
        if place.retry_failed:
            study.retry_failed()
        total = len(plan.arms) * len(plan.seeds)
        grows = {} if growth is None else {"more": lambda study: growth.more(study, tell=tell)}
        outcome = run_trials(
            study,
            DistillRunner(place.folder),
            jobs=place.jobs,
            progress=progress or NullProgress(),
            told=lambda ended: tell(_line(ended, total if growth is None else _begun(study))),
            **grows,
        )
        return Runs.of(study, growth.plan if growth else plan, stopped=outcome.stopped)


def _opened(plan: Plan, place: Place) -> Study:
    if not place.file.exists():
        return Study.create(place.file, plan)
    return Study.open(place.file, plan, edited="allow" if place.allow_change else "refuse")


def _begun(study: Study) -> int:
    """How many runs there are so far, where later ones are not decided on yet."""
    counts = study.counts()
    later = (Status.HELD, Status.PRUNED, Status.DROPPED)
    return sum(count for status, count in counts.items() if status not in later)


def _line(ended: Ended, total: int) -> str:
    """How a run ended, and what is left."""
    trial, found = ended.trial, ended.metrics
    named = f"run {total - ended.left} of {total}: {trial.arm}, seed {trial.seed}"
    if found is None:
        return f"{named}: failed: {ended.error}; {ended.left} left"
    loss = f"loss {found['loss']:.4f}, " if "loss" in found else ""
    return f"{named}: {loss}{format_duration(found['seconds'])}; {ended.left} left"
