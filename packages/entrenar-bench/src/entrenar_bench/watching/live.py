"""A study on the whole terminal while it is driven."""

from __future__ import annotations

import time
from collections.abc import Callable

from entrenar_bench.growth import Tell
from entrenar_bench.statistics import Goal
from entrenar_bench.study import Plan, Study
from entrenar_bench.watching.board import Board
from entrenar_bench.watching.plain import Curves
from entrenar_bench.watching.state import format_value
from entrenar_common.drawing import INTERVAL, Drawing, View
from entrenar_common.screen import Screen
from entrenar_common.units import format_duration

__all__ = ["LiveStudy"]


class LiveStudy(Board):
    """Draws the study on `screen`, at most four times a second in a thread; when the screen is
    given back, `tell` gets what stays: failed runs, a line that sums up, and the curves of arms."""

    def __init__(
        self,
        screen: Screen,
        metric: str,
        goal: Goal,
        *,
        tell: Tell,
        curves: Curves,
        clock: Callable[[], float] = time.monotonic,
        interval: float = INTERVAL,
    ) -> None:
        super().__init__(metric, goal, clock=clock)
        self._tell, self._curves = tell, curves
        self._drawing = Drawing(screen, self._view, written=self.wrote, interval=interval)

    def opened(self, study: Study, plan: Plan, *, jobs: int) -> None:
        super().opened(study, plan, jobs=jobs)
        for text in study.notes:
            self._tell(text)
        self._drawing.open()

    def closed(self) -> None:
        self._drawing.close()
        state = self.state()
        for text in state.remarks:
            if text.startswith("!"):  # the others come out by themselves
                self._tell(f"{state.name}: {text}")
        failed = f", {state.failed} failed" if state.failed else ""
        best = state.best
        named = f", best {best.name} {format_value(best.mean)}" if best is not None else ""
        self._tell(
            f"{state.name}: {state.done}/{state.planned} runs{failed} in "
            f"{format_duration(state.elapsed)}{named}"
        )

    def finished(self, study: Study) -> None:
        self._curves.tell(study, self.state(), self._tell)

    def draw(self) -> None:
        """Show the study as it is now."""
        self._drawing.draw()

    def _view(self) -> View:
        from entrenar_bench.watching.view import render

        state = self.state()
        return lambda width, height: render(state, width, height)
