"""A training shown while it goes on, by whatever can draw: core draws nothing itself."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from entrenar_core.train.callbacks import Callback, Notice, Outcome, Run

__all__ = ["Display", "Shown", "shown"]


class Display(Protocol):
    """What is told of a training in plain data; entrenar_common.live has one for terminals."""

    def begin(
        self, phase: str, *, first_step: int, total_steps: int, steps_per_epoch: float
    ) -> None:
        """A phase begins, or goes on after `first_step`."""
        ...

    def step(self, record: Mapping[str, Any]) -> None:
        """A step is done: its line of the log."""
        ...

    def saved(self, step: int) -> None:
        """A checkpoint is on the disk."""
        ...

    def notice(self, step: int, text: str, *, severity: str) -> None:
        """Something was noticed, that is info, warning or serious."""
        ...

    def end(self, outcome: str) -> None:
        """The phase is over."""
        ...


class Shown(Callback):
    """Tells a display of every phase of a training."""

    def __init__(self, display: Display):
        self.display = display

    def started(self, run: Run) -> None:
        self.display.begin(
            run.phase,
            first_step=run.first_step,
            total_steps=run.total_steps,
            steps_per_epoch=run.steps_per_epoch,
        )

    def step(self, record: Mapping[str, Any]) -> None:
        self.display.step(record)

    def saved(self, path: Path, step: int) -> None:  # noqa: ARG002
        self.display.saved(step)

    def noticed(self, notice: Notice) -> None:
        self.display.notice(
            notice.step, f"{notice.kind}: {notice.message}", severity=notice.severity
        )

    def ended(self, outcome: Outcome) -> None:
        self.display.end(outcome)


def shown(display: Display | None) -> tuple[Callback, ...]:
    """The callbacks of a training that `display` shows; none without one."""
    return () if display is None else (Shown(display),)
