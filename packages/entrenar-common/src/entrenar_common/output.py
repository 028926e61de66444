"""Where a command's output goes: data to standard output, all else to standard error."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

from entrenar_common.console import is_terminal, make_console, paint, wants_color
from entrenar_common.errors import InternalError
from entrenar_common.progress import LineProgress, NullProgress, Progress, RichProgress
from entrenar_common.text import escape_controls

if TYPE_CHECKING:
    from entrenar_common.live import LiveTraining
    from entrenar_common.screen import Screen

__all__ = ["Output"]


class Output:
    """What a command writes through, as its common options ask.

    `color` is None where the terminal and NO_COLOR decide. `record` is the result that was printed,
    None before.
    """

    def __init__(
        self,
        *,
        json: bool = False,
        quiet: bool = False,
        verbose: bool = False,
        color: bool | None = None,
        debug: bool = False,
    ) -> None:
        self.json = json
        self.quiet = quiet
        self.verbose = verbose
        self.color = color
        self.debug = debug
        self.record: Any = None
        self._emitted = False
        self._last_piece = ""
        self.words: tuple[str, ...] = ()
        """What the command was called with, its program's name first; none outside a command."""
        self._progress: Progress | None = None
        self._live: LiveTraining | None = None

    def emit(self, record: Any, schema: str) -> None:
        """Print the command's result, a dataclass, to standard output: its view, or as JSON.

        Where its text was printed in pieces already, that is all of its view.

        Raises InternalError when a result was printed before: there is one document.
        """
        if self._emitted:
            raise InternalError(
                f"a second result, {schema}, for one command",
                hint="put both into one record; notes go to standard error",
            )
        self._emitted, self.record = True, record
        self.close()
        from entrenar_common import tables

        if self.json:
            document = {"schema": schema, "data": tables.to_plain(record)}
            sys.stdout.write(json.dumps(document, indent=2, allow_nan=False) + "\n")
        elif self._last_piece:
            sys.stdout.write("" if self._last_piece.endswith("\n") else "\n")
        else:
            tables.render(record, make_console(sys.stdout, color=self.color))

    def piece(self, text: str) -> None:
        """Print a piece of the text that is the command's result, at once; as JSON it comes whole.

        What would steer a terminal is shown escaped there, and left as it is elsewhere.
        """
        if self.json or not text:
            return
        self.close()
        self._last_piece = text
        if is_terminal(sys.stdout):
            text = "\n".join(map(escape_controls, text.split("\n")))
        sys.stdout.write(text)
        sys.stdout.flush()

    def progress(self) -> Progress:
        """What to pass to a library: a bar on a terminal, plain lines elsewhere, quiet: nothing."""
        if self._progress is None:
            self._progress = self._make_progress()
        return self._progress

    def _make_progress(self) -> Progress:
        if self.quiet:
            return NullProgress()
        stream = sys.stderr
        if not is_terminal(stream):
            return LineProgress(stream)
        return RichProgress(lambda: make_console(stream, color=self.color))

    def live(self) -> LiveTraining | None:
        """What to show trainings with, in the place of their bars: the whole terminal.

        None where quiet asks for no progress, and, with a note, where standard error is no
        terminal: the plain lines of `progress` are what a log can have.
        """
        if self._live is None:
            screen = self.screen()
            if screen is None:
                return None
            from entrenar_common.live import LiveTraining

            self._live = LiveTraining(screen, self.progress())
            self._progress = self._live
        return self._live

    def screen(self) -> Screen | None:
        """The whole terminal to draw on; None as `live` has it. Whoever opens it closes it."""
        if self.quiet:
            return None
        stream = sys.stderr
        if not is_terminal(stream):
            self.note("--live: standard error is no terminal, so progress is shown as plain lines")
            return None
        from entrenar_common.screen import Screen

        return Screen(stream, color=self.color)

    def note(self, text: str) -> None:
        """Say something in passing on standard error, unless quiet."""
        if not self.quiet:
            self._say("", "", text)

    def detail(self, text: str) -> None:
        """Say something on standard error that only --verbose asks for."""
        if self.verbose:
            self._say("", "", text)

    def warn(self, text: str) -> None:
        """Say on standard error what the user should know; quiet does not silence it."""
        self._say("warning: ", "warning", text)

    def error(self, report: str) -> None:
        """Print the report of an error, `EntrenarError.report`, to standard error."""
        first, *rest = report.split("\n")
        label, _, message = first.partition(" ")
        self._say(f"{label} ", "error", message)
        for line in rest:
            prefix = "hint: " if line.startswith("hint: ") else ""
            self._say(prefix, "hint", line.removeprefix(prefix))

    def close(self) -> None:
        """End the progress display, so that what follows starts on its own line."""
        if self._live is not None:
            self._live.close()
        if self._progress is not None:
            self._progress.finish()

    def _say(self, label: str, style: str, text: str) -> None:
        colored = label and wants_color(sys.stderr, color=self.color)
        shown = paint(label, style) if colored else label
        # Through sys.stderr as it is now: a progress bar puts itself there to stay below the text.
        sys.stderr.write(f"{shown}{escape_controls(text)}\n")
        sys.stderr.flush()
