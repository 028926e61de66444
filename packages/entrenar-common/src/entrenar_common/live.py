"""A training on the whole terminal while it goes on."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from entrenar_common.drawing import INTERVAL, Drawing, View, say
from entrenar_common.progress import Progress, format_field, format_steps
from entrenar_common.series import Series
from entrenar_common.text import escape_controls
from entrenar_common.units import format_duration

if TYPE_CHECKING:
    from entrenar_common.screen import Screen
    from entrenar_common.training_view import Remark, TrainingState

__all__ = ["LiveTraining"]

_REMARKS = 50  # so many are kept; all have a line when the phase is over, up to this
_MARKS = {"info": ("i", ""), "warning": ("!", "warning"), "serious": ("!!", "error")}
_READINGS = {
    "loss": 256,
    "held_out_loss": 128,
    "learning_rate": 128,
    "grad_norm": 128,
    "tokens_per_second": 128,
    "memory_bytes": 128,
}
"""Keys of the log, and how many stretches are drawn: terminals are not wider."""


class _Phase:
    """What is known of the phase that goes on. Of its own thread and of the one that draws."""

    def __init__(
        self, name: str, first_step: int, total_steps: int, steps_per_epoch: float, began: float
    ) -> None:
        self.name, self.first_step, self.total_steps = name, first_step, total_steps
        self.steps_per_epoch, self.began = steps_per_epoch, began
        self.step, self.skipped = first_step, 0
        self.saved: int | None = None
        self.series = {key: Series(count) for key, count in _READINGS.items()}
        self.remarks: deque[Remark] = deque(maxlen=_REMARKS)
        self.remarked = 0

    def take(self, record: Mapping[str, Any]) -> None:
        self.step = record["step"]
        self.skipped += bool(record.get("skipped"))
        for name in _READINGS:
            if name in record:
                self.series[name].add(self.step, record[name])

    def state(self, now: float) -> TrainingState:
        from entrenar_common.training_view import TrainingState

        curves = {name: series.curve() for name, series in self.series.items()}
        return TrainingState(
            phase=self.name,
            step=self.step,
            first_step=self.first_step,
            total_steps=self.total_steps,
            steps_per_epoch=self.steps_per_epoch,
            elapsed=now - self.began,
            loss=curves["loss"],
            held_out=curves["held_out_loss"],
            learning_rate=curves["learning_rate"],
            grad_norm=curves["grad_norm"],
            tokens_per_second=curves["tokens_per_second"],
            memory=curves["memory_bytes"],
            remarks=tuple(self.remarks),
            skipped=self.skipped,
            saved=self.saved,
        )


class LiveTraining:
    """Draws what it is told of a training on `screen`, at most four times a second in a thread.

    It is the command's `Progress` too: between trainings what it is told goes to `otherwise`, in a
    training the screen has it. What others write to standard error meanwhile is among the remarks,
    and comes out when the screen is given back, before a line that sums up the phase.
    """

    def __init__(
        self,
        screen: Screen,
        otherwise: Progress,
        *,
        clock: Callable[[], float] = time.monotonic,
        interval: float = INTERVAL,
    ) -> None:
        self._screen, self._otherwise = screen, otherwise
        self._clock = clock
        self._phase: _Phase | None = None
        self._lock = threading.Lock()
        self._drawing = Drawing(screen, self._view, written=self._written, interval=interval)

    # ---- a Progress -------------------------------------------------------------------------

    def start(self, task_name: str, total: int | None) -> None:
        """Begin a task of `total` steps, which in a training is the training."""
        if self._phase is None:
            self._otherwise.start(task_name, total)

    def advance(self, n: int = 1, **fields: float | str) -> None:
        """Count `n` more steps."""
        if self._phase is None:
            self._otherwise.advance(n, **fields)

    def finish(self) -> None:
        """End the running task, if there is one."""
        if self._phase is None:
            self._otherwise.finish()

    # ---- a training -------------------------------------------------------------------------

    def begin(
        self, phase: str, *, first_step: int, total_steps: int, steps_per_epoch: float
    ) -> None:
        """Take the terminal for a phase of training, which goes on after `first_step`."""
        self.close()
        self._otherwise.finish()
        self._phase = _Phase(phase, first_step, total_steps, steps_per_epoch, self._clock())
        self._drawing.open()

    def step(self, record: Mapping[str, Any]) -> None:
        """Take the line that a step has in the log."""
        with self._lock:
            if self._phase is not None:
                self._phase.take(record)

    def saved(self, step: int) -> None:
        """A checkpoint of this step is on the disk."""
        with self._lock:
            if self._phase is not None:
                self._phase.saved = step

    def notice(self, step: int, text: str, *, severity: str = "warning") -> None:
        """Something was noticed: `severity` is info, warning or serious."""
        mark, style = _MARKS.get(severity, _MARKS["warning"])
        with self._lock:
            self._remark(step, text, mark, style)

    def end(self, outcome: str) -> None:
        """Give the terminal back, and say in lines that stay what has been."""
        phase = self._phase
        if phase is None:
            return
        elapsed = self._clock() - phase.began
        self.close()
        hidden = phase.remarked - len(phase.remarks)
        lines = [f"and {hidden} more before"] if hidden else []
        lines += [f"{r.mark} step {r.step}: {r.text}" for r in phase.remarks if r.mark.strip()]
        lines.append(_summary(phase, outcome, elapsed))
        say("".join(f"{escape_controls(f'{phase.name}: {line}')}\n" for line in lines))

    def close(self) -> None:
        """Give the terminal back, wherever the training is. Closing twice does nothing."""
        self._drawing.close()
        self._phase = None

    def draw(self) -> None:
        """Show the phase as it is now."""
        self._drawing.draw()

    def _view(self) -> View | None:
        from entrenar_common.training_view import render

        with self._lock:
            state = None if self._phase is None else self._phase.state(self._clock())
        return None if state is None else lambda width, height: render(state, width, height)

    def _written(self, line: str) -> None:
        """A line for standard error, of whichever thread."""
        with self._lock:
            if self._phase is not None:
                self._remark(self._phase.step, line, " ", "")

    def _remark(self, step: int, text: str, mark: str, style: str) -> None:
        from entrenar_common.training_view import Remark

        if self._phase is not None:
            self._phase.remarks.append(Remark(step, text, mark, style))
            self._phase.remarked += 1


def _summary(phase: _Phase, outcome: str, elapsed: float) -> str:
    """How a phase ended, in a line."""
    steps = format_steps(phase.step, phase.total_steps)
    parts = [f"{outcome}, {steps} steps in {format_duration(elapsed)}"]
    loss, held_out = (phase.series[name].curve() for name in ("loss", "held_out_loss"))
    if loss.last is not None:
        parts.append(format_field("loss", loss.last))
    if held_out.least is not None and held_out.last is not None:
        step, least = held_out.least
        parts.append(format_field("held-out", held_out.last))
        parts.append(f"{format_field('best', least)} at step {step}")
    return ", ".join(parts)
