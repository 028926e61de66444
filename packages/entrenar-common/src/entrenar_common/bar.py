"""The progress bar of one task; the only module that knows how a bar looks."""

from collections.abc import Callable, Mapping

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task
from rich.table import Column
from rich.text import Text

from entrenar_common.progress import SECONDS_LEFT, format_field, format_seconds, format_steps
from entrenar_common.text import escape_controls

__all__ = ["Bar"]


class _TextColumn(ProgressColumn):
    """A column with the text that `show` makes of a task, never interpreted as markup."""

    def __init__(self, show: Callable[[Task], str], style: str) -> None:
        super().__init__(Column(no_wrap=True, overflow="ellipsis"))
        self._show = show
        self._style = style

    def render(self, task: Task) -> Text:
        return Text(self._show(task), style=self._style)


class Bar:
    """Task, bar, steps, fields and times on one line, drawn four times a second when `live`."""

    def __init__(
        self,
        console: Console,
        task_name: str,
        total: int | None,
        *,
        clock: Callable[[], float],
        live: bool,
    ) -> None:
        self._fields: dict[str, float | str] = {}
        self._clock = clock
        self._end: float | None = None  # when it will be over, if somebody has said so
        self._display = Progress(
            _TextColumn(lambda task: escape_controls(task.description), "progress.task"),
            BarColumn(bar_width=None, table_column=Column(ratio=1, min_width=8)),
            _TextColumn(lambda task: format_steps(task.completed, task.total), "progress.steps"),
            _TextColumn(lambda _: self._shown_fields(), "progress.fields"),
            _TextColumn(self._times, "progress.time"),
            console=console,
            expand=True,
            auto_refresh=live,
            refresh_per_second=4,
            redirect_stdout=False,  # rich would send the data to its console, on standard error
            redirect_stderr=True,
            get_time=clock,
        )
        self._task = self._display.add_task(task_name, total=total)
        self._display.start()

    def advance(self, n: int, fields: Mapping[str, float | str]) -> None:
        """Count steps, and keep the fields for the next drawing."""
        self._fields |= fields
        if SECONDS_LEFT in self._fields:
            self._end = self._clock() + float(self._fields.pop(SECONDS_LEFT))
        self._display.advance(self._task, n)

    def stop(self) -> None:
        """Draw the last state, and stop."""
        self._display.stop()

    def _shown_fields(self) -> str:
        return "  ".join(format_field(name, value) for name, value in self._fields.items())

    def _times(self, task: Task) -> str:
        if task.finished:
            return format_seconds(task.finished_time or 0.0)
        elapsed = format_seconds(task.elapsed or 0.0)
        if self._end is not None:
            left = max(0.0, self._end - self._clock())
            return f"{elapsed}, about {format_seconds(left)} left"
        left = task.time_remaining
        return elapsed if left is None else f"{elapsed}, {format_seconds(left)} left"
