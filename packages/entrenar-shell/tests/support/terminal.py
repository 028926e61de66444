"""A terminal as a person sees it: a program on a pseudo terminal, its screen kept by pyte."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType

import pexpect
import pyte

CTRL_C, CTRL_D, CTRL_L, CTRL_R, ENTER, TAB, UP, ESCAPE = (
    "\x03",
    "\x04",
    "\x0c",
    "\x12",
    "\r",
    "\t",
    "\x1b[A",
    "\x1b",
)


class Terminal:
    """A program on a terminal of `columns` by `rows`. `seen` is all that the program ever wrote."""

    def __init__(
        self,
        words: Sequence[str],
        *,
        env: Mapping[str, str],
        cwd: Path,
        columns: int = 80,
        rows: int = 24,
    ) -> None:
        self.seen = ""
        self._screen = pyte.HistoryScreen(columns, rows, history=2000)
        self._screen.write_process_input = lambda answer: self._child.send(answer)
        self._stream = pyte.Stream(self._screen)
        self._child = pexpect.spawn(
            words[0],
            list(words[1:]),
            env=dict(env),
            cwd=str(cwd),
            dimensions=(rows, columns),
            encoding="utf-8",
            timeout=60,
        )
        self._child.delaybeforesend = None

    @property
    def pid(self) -> int:
        """The process."""
        return self._child.pid

    @property
    def lines(self) -> list[str]:
        """The screen, without blanks at the ends and without empty lines at the bottom."""
        return "\n".join(line.rstrip() for line in self._screen.display).rstrip("\n").split("\n")

    @property
    def text(self) -> str:
        """All that was on the screen, with what has been scrolled away."""
        gone = [
            "".join(line[x].data for x in range(self._screen.columns)).rstrip()
            for line in self._screen.history.top
        ]
        return "\n".join([*gone, *self.lines])

    def style(self, text: str) -> tuple[str, bool, bool]:
        """The colour, whether bold and whether reverse, of where a text is on the screen first."""
        row, line = next((y, x) for y, x in enumerate(self.lines) if text in x)
        cell = self._screen.buffer[row][line.index(text)]
        return cell.fg, cell.bold, cell.reverse

    def type(self, text: str) -> None:
        """Type a text."""
        self._child.send(text)

    def enter(self, line: str) -> None:
        """Type a line and the enter key."""
        self.type(line + ENTER)

    def paste(self, text: str) -> None:
        """Paste, as terminals do that have been told to mark it."""
        self.type(f"\x1b[200~{text}\x1b[201~")

    def resize(self, columns: int, rows: int) -> None:
        """Give the window another size."""
        self._screen.resize(rows, columns)
        self._child.setwinsize(rows, columns)

    def until(self, condition: Callable[[], bool] | str, seconds: float = 200) -> None:
        """Wait until a condition holds, or a text is on the screen."""
        met = (lambda: condition in self.text) if isinstance(condition, str) else condition
        deadline = time.monotonic() + seconds
        while not met():
            assert time.monotonic() < deadline, f"{condition!r} never came:\n{self.text}"
            self._read(0.05)

    def settle(self, seconds: float = 0.3) -> None:
        """Read until nothing has come for a while."""
        while self._read(seconds):
            pass

    def _read(self, seconds: float) -> bool:
        try:
            piece = self._child.read_nonblocking(65536, seconds)
        except (pexpect.TIMEOUT, pexpect.EOF):
            return False
        self.seen += piece
        self._stream.feed(piece)
        return True

    def end(self, seconds: float = 200) -> int:
        """Wait for the end of the program; its exit code, that of a shell for a signal."""
        deadline = time.monotonic() + seconds
        while self._child.isalive():
            assert time.monotonic() < deadline, f"it never ended:\n{self.text}"
            self._read(0.05)
        self.settle(0.05)
        code, killed = self._child.exitstatus, self._child.signalstatus
        return code if code is not None else 128 + killed

    def hang_up(self) -> None:
        """Close the terminal, as by its window's button."""
        self._child.close(force=False)

    def kill(self) -> None:
        """Kill the program with what no program can handle."""
        os.kill(self.pid, signal.SIGKILL)

    def __enter__(self) -> Terminal:
        return self

    def __exit__(
        self, kind: type | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # It is killed in the end; on a busy machine that takes longer than pexpect waits.
        with suppress(OSError, pexpect.ExceptionPexpect):
            self._child.close(force=True)


def environment(home: Path, **more: str) -> dict[str, str]:
    """A user's environment with a home of its own, on a terminal of 256 colours."""
    own = {"NO_COLOR", "FORCE_COLOR", "COLUMNS", "LINES", "ENTRENAR_HISTFILE"}
    kept = {k: v for k, v in os.environ.items() if k not in own and not k.startswith("XDG_")}
    return (
        kept
        | {
            "HOME": str(home),
            "TERM": "xterm-256color",
            "PYTHONIOENCODING": "utf-8",
        }
        | more
    )


PYTHON = sys.executable
