"""Progress of long work: what a library calls, and how a command line shows it.

A library takes a `Progress` with NullProgress as the default, and knows nothing of terminals.
A field passed to `advance` is shown beside the counts: `loss=2.31` as "loss 2.31", and a name that
ends in `_per_s` as a rate: `tokens_per_s=12_300` as "12.3K tokens/s". The field `seconds_left` is
what remains as the library reckons it, and is shown in the place of the display's own estimate.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from typing import IO, TYPE_CHECKING, Protocol

from entrenar_common.text import escape_controls
from entrenar_common.units import format_count, format_duration

if TYPE_CHECKING:
    from rich.console import Console

    from entrenar_common.bar import Bar

__all__ = [
    "SECONDS_LEFT",
    "LineProgress",
    "NullProgress",
    "Progress",
    "RichProgress",
    "format_field",
    "format_seconds",
    "format_steps",
]

SECONDS_LEFT = "seconds_left"
"""The field with what remains."""


class Progress(Protocol):
    """Receives the progress of one task after another."""

    def start(self, task_name: str, total: int | None) -> None:
        """Begin a task of `total` steps (None: unknown); a task still running is finished first."""
        ...

    def advance(self, n: int = 1, **fields: float | str) -> None:
        """Count `n` more steps; `fields` replace those of the same names."""
        ...

    def finish(self) -> None:
        """End the running task, if there is one."""
        ...


class NullProgress:
    """Shows nothing."""

    def start(self, task_name: str, total: int | None) -> None:
        """Ignore a task."""

    def advance(self, n: int = 1, **fields: float | str) -> None:
        """Ignore steps."""

    def finish(self) -> None:
        """Ignore an end."""


def format_field(name: str, value: float | str) -> str:
    """One field as it is shown.

    >>> format_field("loss", 2.3456), format_field("tokens_per_s", 12_300)
    ('loss 2.346', '12.3K tokens/s')
    """
    if name.endswith("_per_s"):
        rate = value if isinstance(value, str) else format_count(value)
        return f"{rate} {name.removesuffix('_per_s').replace('_', ' ')}/s"
    return escape_controls(f"{name.replace('_', ' ')} {_format_value(value)}")


def _format_value(value: float | str) -> str:
    if isinstance(value, str | int):
        return str(value)
    # Trailing zeros stay, so that what stands beside a changing loss does not jump.
    return f"{value:#.4g}" if 0.01 <= abs(value) < 10_000 else f"{value:.3g}"


def format_seconds(seconds: float) -> str:
    """A duration for a clock that ticks: whole seconds below a minute.

    >>> format_seconds(5.7), format_seconds(125)
    ('5s', '2m 05s')
    """
    return f"{int(seconds)}s" if seconds < 60 else format_duration(seconds)


def format_steps(done: float, total: float | None) -> str:
    """Steps done of the total: exactly up to 99 999, then to three digits.

    >>> format_steps(1200, 5000), format_steps(1_200_000, 4_500_000), format_steps(7, None)
    ('1200/5000', '1.20M/4.50M', '7')
    """
    show = format_count if max(done, total or 0) >= 100_000 else "{:.0f}".format
    return show(done) if total is None else f"{show(done)}/{show(total)}"


class LineProgress:
    """Plain lines for logs: one when a task starts, one when it ends, and few in between.

    `interval` is the least number of seconds between two lines of a task, `clock` what counts them.
    """

    def __init__(
        self,
        stream: IO[str],
        *,
        interval: float = 10.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._stream = stream
        self._interval = interval
        self._clock = clock
        self._task: str | None = None
        self._total: int | None = None
        self._done = 0
        self._fields: dict[str, float | str] = {}
        self._started = self._last_line = 0.0

    def start(self, task_name: str, total: int | None) -> None:
        """Begin a task of `total` steps; a task still running is finished first."""
        self.finish()
        self._task, self._total, self._done, self._fields = task_name, total, 0, {}
        self._started = self._last_line = self._clock()
        self._print("started" if total is None else f"started, {format_steps(total, None)} steps")

    def advance(self, n: int = 1, **fields: float | str) -> None:
        """Count `n` more steps, and print a line when the last one is `interval` seconds ago."""
        self._done += n
        self._fields |= fields
        now = self._clock()
        if self._task is None or now - self._last_line < self._interval:
            return
        self._last_line = now
        elapsed = now - self._started
        parts = [self._steps(), *self._shown_fields(), f"{format_seconds(elapsed)} elapsed"]
        if self._total is not None and 0 < self._done <= self._total:
            parts.append(self._left(elapsed, self._total - self._done))
        self._print(", ".join(parts))

    def finish(self) -> None:
        """End the running task with a line that says how far it came, and in what time."""
        if self._task is None:
            return
        whole = self._total is None or self._done >= self._total
        took = format_duration(self._clock() - self._started)
        end = f"{'done' if whole else 'stopped'}, {format_steps(self._done, self._total)} in {took}"
        self._print(", ".join([end, *self._shown_fields()]))
        self._task = None

    def _left(self, elapsed: float, steps: int) -> str:
        if SECONDS_LEFT in self._fields:
            return f"about {format_seconds(float(self._fields[SECONDS_LEFT]))} left"
        return f"{format_seconds(elapsed / self._done * steps)} left"

    def _steps(self) -> str:
        share = f" ({self._done / self._total:.0%})" if self._total else ""
        return format_steps(self._done, self._total) + share

    def _shown_fields(self) -> list[str]:
        return [format_field(n, value) for n, value in self._fields.items() if n != SECONDS_LEFT]

    def _print(self, text: str) -> None:
        self._stream.write(f"{escape_controls(self._task or '')}: {text}\n")
        self._stream.flush()


class RichProgress:
    """A bar on a terminal, with the fields, the time elapsed and the time that remains.

    What is written to standard error while the bar is shown appears above it. `make_console` is
    called on first use, `clock` gives the seconds, and without `live` nothing redraws the bar
    between two calls.
    """

    def __init__(
        self,
        make_console: Callable[[], Console],
        *,
        clock: Callable[[], float] = time.monotonic,
        live: bool = True,
    ) -> None:
        self._make_console = make_console
        self._clock = clock
        self._live = live
        self._bar: Bar | None = None

    def start(self, task_name: str, total: int | None) -> None:
        """Begin a task of `total` steps; a task still running is finished first."""
        self.finish()
        from entrenar_common.bar import Bar

        with suppress(OSError):  # of a terminal that was closed: the work goes on all the same
            self._bar = Bar(
                self._make_console(), task_name, total, clock=self._clock, live=self._live
            )

    def advance(self, n: int = 1, **fields: float | str) -> None:
        """Count `n` more steps; the bar is redrawn a few times a second, not at every call."""
        if self._bar is not None:
            self._bar.advance(n, fields)

    def finish(self) -> None:
        """Leave the bar as it stands, and give the line below it back."""
        bar, self._bar = self._bar, None
        if bar is not None:
            with suppress(OSError):
                bar.stop()
