"""What a run tells of itself while it goes on: its steps, from its process to the driver's."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

__all__ = ["Reporting", "Step", "Steps", "Teller"]

INTERVAL = 0.5
"""Seconds between two messages of a run, at least."""


@dataclass(frozen=True)
class Step:
    """A step that is done.

    number:  counted from 1, in each phase anew
    total:   of its phase; None where that is not known
    metrics: what is kept of it; none where it is only to be seen that the run goes on
    phase:   which of the trainings of a run, where it has several
    """

    number: int
    total: int | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    phase: str = ""


@dataclass(frozen=True)
class Steps:
    """A message: steps in their order."""

    steps: tuple[Step, ...]


@runtime_checkable
class Reporting(Protocol):
    """A runner that can tell of its steps while it goes on."""

    def reporting(self, tell: Callable[[Step], None]) -> Callable[..., object]:
        """The same runner, which calls `tell` with each step."""
        ...


class Teller:
    """Passes steps on to `send`, in their order and none left out: the first one at once, others
    together, with at least `interval` seconds between two messages, and none held back for longer,
    also where no other step comes. A driver that is gone is no error of the run."""

    def __init__(
        self,
        send: Callable[[Steps], None],
        *,
        interval: float = INTERVAL,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._send, self._interval, self._clock = send, interval, clock
        self._lock = threading.Lock()
        self._held: list[Step] = []
        self._sent: float | None = None
        self._timer: threading.Timer | None = None

    def __call__(self, step: Step) -> None:
        """Take a step."""
        with self._lock:
            self._held.append(step)
            wait = 0.0 if self._sent is None else self._sent + self._interval - self._clock()
            if wait <= 0:
                self._pass_on()
            elif self._timer is None:
                self._timer = threading.Timer(wait, self.flush)
                self._timer.daemon = True
                self._timer.start()

    def flush(self) -> None:
        """Send what is held back."""
        with self._lock:
            self._pass_on()

    def _pass_on(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        held, self._held = self._held, []
        if held:
            self._sent = self._clock()
            with contextlib.suppress(OSError):
                self._send(Steps(tuple(held)))
