"""A study in lines that stay, and as one bar."""

from __future__ import annotations

from dataclasses import dataclass

from entrenar_bench.growth import Tell, untold
from entrenar_bench.statistics import Goal
from entrenar_bench.study import Ended, Plan, Study
from entrenar_bench.watching.board import STOPPING, Board
from entrenar_bench.watching.curves import curve_lines
from entrenar_bench.watching.state import StudyState
from entrenar_common.plot import Glyphs
from entrenar_common.progress import SECONDS_LEFT, NullProgress, Progress, format_seconds
from entrenar_common.units import format_duration

__all__ = ["Curves", "Plain", "ended_line"]


@dataclass(frozen=True)
class Curves:
    """How the curves of arms are shown when a study is done."""

    width: int
    glyphs: Glyphs

    def tell(self, study: Study, state: StudyState, tell: Tell) -> None:
        """Show them line by line."""
        for line in curve_lines(study, state, self.width, glyphs=self.glyphs):
            tell(line)


class Plain(Board):
    """Tells `line` of each run that ends, `failure` of those that failed instead, `note` of what
    the study notes; `progress` has all runs as its steps. `curves` come at the end."""

    def __init__(
        self,
        metric: str,
        goal: Goal,
        *,
        note: Tell = untold,
        line: Tell = untold,
        failure: Tell = untold,
        progress: Progress | None = None,
        curves: Curves | None = None,
    ) -> None:
        super().__init__(metric, goal)
        self._tell, self._line, self._failure = note, line, failure
        self._progress, self._curves = progress or NullProgress(), curves

    def opened(self, study: Study, plan: Plan, *, jobs: int) -> None:
        super().opened(study, plan, jobs=jobs)
        for text in study.notes:
            self._tell(text)
        state = self.state()
        self._progress.start("runs", None if plan.rule is not None else state.planned)
        if state.done:
            self._advance(state.done)

    def ended(self, ended: Ended) -> None:
        super().ended(ended)
        self._advance(1)
        tell = self._failure if ended.metrics is None else self._line
        tell(ended_line(ended, self.state()))

    def grew(self, said: str) -> None:
        self._line(said)

    def stopping(self) -> None:
        self._tell(STOPPING)

    def closed(self) -> None:
        self._progress.finish()

    def finished(self, study: Study) -> None:
        if self._curves is not None:
            self._curves.tell(study, self.state(), self._tell)

    def _advance(self, count: int) -> None:
        state = self.state()
        fields: dict[str, float | str] = {}
        if state.best is not None and state.best.mean is not None:
            fields["best"] = f"{state.best.name} {state.best.mean:.4f}"
        if state.left is not None:
            fields[SECONDS_LEFT] = state.left
        self._progress.advance(count, **fields)


def ended_line(ended: Ended, state: StudyState) -> str:
    """How a run ended, and what is left."""
    trial, found = ended.trial, ended.metrics
    left = f"{ended.left} left"
    if state.left is not None and ended.left:
        left += f", about {format_seconds(state.left)}"
    named = f"run {state.done} of {state.planned}: {trial.arm}, seed {trial.seed}"
    if found is None:
        return f"{named}: failed: {ended.error}; {left}"
    value = f"{state.metric} {found[state.metric]:.4f}, " if state.metric in found else ""
    took = format_duration(found["seconds"]) if "seconds" in found else "done"
    return f"{named}: {value}{took}; {left}"
