"""What is told of a training while it goes on: the protocol of everything that shows or exports it.

A callback watches. It is given what the log is given, and nothing through which it could change a
weight; the one thing it may do to a training is to end it, by raising `StopTraining` from `step`.
An error that it raises is the training's: what must not fail with a collector that is down or slow
has to see to it itself.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from entrenar_core.train.trace import Recorder, Span

__all__ = ["Callback", "Callbacks", "Notice", "Run", "StopTraining"]

Outcome = Literal["finished", "stopped", "interrupted", "failed"]


class StopTraining(Exception):
    """Raised by a callback: the training ends well after this step, which is saved."""


@dataclass(frozen=True)
class Notice:
    """Something off, as it was noticed.

    kind:     what it is taken to be, such as "data-stall"
    step:     the optimizer step, counted from 1
    message:  what was seen, with its value and what is usual
    severity: how sure it is that somebody should look
    """

    kind: str
    step: int
    message: str
    severity: Literal["info", "warning", "serious"] = "warning"


@dataclass(frozen=True)
class Run:
    """What begins.

    phase:           which of the trainings of a run
    first_step:      steps that were done before: 0 unless it goes on from a checkpoint
    total_steps:     steps that it has when it is done
    steps_per_epoch: optimizer steps in a pass over the data, rarely a whole number
    parameters:      numbers that are trained
    settings:        the configuration, as JSON has it
    zero:            nanoseconds since 1970 when the clock of the spans was at 0
    notify:          tells every callback of a `Notice`
    """

    phase: str
    first_step: int
    total_steps: int
    steps_per_epoch: float
    parameters: int
    settings: Mapping[str, Any]
    zero: int
    notify: Callable[[Notice], None]


class Callback:
    """Told of a training. Every method does nothing unless it is overridden."""

    operations: ClassVar[bool] = False
    """Whether it wants spans of every operation, which makes steps slower."""

    def started(self, run: Run) -> None:
        """A phase of training begins, or goes on."""

    def span(self, span: Span) -> None:
        """A span ended; see `trace`."""

    def step(self, record: Mapping[str, Any]) -> None:
        """An optimizer step is done: its line of the log, with `held_out_loss` and other figures
        where it ended with an evaluation. Lost steps are `skipped`; their loss is not finite."""

    def saved(self, path: Path, step: int) -> None:
        """A checkpoint is on the disk."""

    def noticed(self, notice: Notice) -> None:
        """A callback noticed something."""

    def ended(self, outcome: Outcome) -> None:
        """The phase is over: "finished" is the whole of it, "stopped" is early but well,
        "interrupted" was asked for by a signal, "failed" is an error."""


class Callbacks(Callback):
    """Several as one, told in their order."""

    def __init__(self, callbacks: Sequence[Callback] = ()):
        self.all = tuple(callbacks)

    def recorder(self) -> Recorder:
        """One that tells of spans those that listen."""
        listening = [each for each in self.all if type(each).span is not Callback.span]
        wanted = any(each.operations for each in listening)
        return Recorder([each.span for each in listening], operations=wanted)

    def started(self, run: Run) -> None:
        for each in self.all:
            each.started(run)

    def step(self, record: Mapping[str, Any]) -> None:
        """Tell all of them, also where one asks to stop."""
        asked: StopTraining | None = None
        for each in self.all:
            try:
                each.step(record)
            except StopTraining as request:
                asked = asked or request
        if asked is not None:
            raise asked

    def saved(self, path: Path, step: int) -> None:
        for each in self.all:
            each.saved(path, step)

    def noticed(self, notice: Notice) -> None:
        for each in self.all:
            each.noticed(notice)

    def ended(self, outcome: Outcome) -> None:
        """Tell all of them, also where one raises an error, which is raised afterwards."""
        with ExitStack() as stack:
            for each in reversed(self.all):
                stack.callback(each.ended, outcome)
