"""A whole terminal to draw on, which is as it was before when that is over."""

from __future__ import annotations

import io
import os
import shutil
from collections.abc import Callable
from typing import IO, TYPE_CHECKING

from entrenar_common.console import make_console, wants_color

if TYPE_CHECKING:
    from rich.console import RenderableType

__all__ = ["Screen"]

# The alternate screen, which leaves what was on the terminal alone; no cursor; nothing wraps, also
# while the terminal is made narrower.
_ENTER = "\x1b[?1049h\x1b[?25l\x1b[?7l"
_LEAVE = "\x1b[?7h\x1b[?25h\x1b[?1049l"
_CLEAR = "\x1b[2J"


class Screen:
    """Draws on the terminal `stream`, in colour as `console.wants_color` says.

    A terminal that is gone is drawn on no more, and is no error: what is shown is not the work.
    """

    def __init__(self, stream: IO[str], *, color: bool | None = None) -> None:
        self._stream = stream
        # rich writes elsewhere: its answer to a closed pipe is to end the program
        self._frame = _Frame(getattr(stream, "encoding", None) or "ascii")
        self._console = make_console(self._frame, color=wants_color(stream, color=color))
        self._shown: list[str] = []
        self._size = (0, 0)
        self._open = False

    @property
    def size(self) -> tuple[int, int]:
        """Columns and lines that the terminal has now."""
        try:
            found = os.get_terminal_size(self._stream.fileno())
        except (OSError, ValueError):
            found = shutil.get_terminal_size()
        return found.columns, found.lines

    def open(self) -> None:
        """Take the terminal."""
        self._open, self._shown, self._size = True, [], (0, 0)
        self._write(_ENTER)

    def draw(self, render: Callable[[int, int], RenderableType]) -> None:
        """Show what `render` makes for the size that there is now; only what changed is sent."""
        if not self._open:
            return
        size = self.size
        width, height = max(1, size[0]), max(1, size[1])
        self._console.print(render(width, height), end="", soft_wrap=True)
        lines = self._frame.take().split("\n")[:height]
        cleared = size != self._size
        before = [] if cleared else self._shown
        lines += [""] * (len(before) - len(lines))
        changed = [
            f"\x1b[{row};1H\x1b[K{line}"
            for row, line in enumerate(lines, 1)
            if row > len(before) or line != before[row - 1]
        ]
        if cleared or changed:
            self._write((_CLEAR if cleared else "") + "".join(changed))
        self._shown, self._size = lines, size

    def close(self) -> None:
        """Give the terminal back. Closing twice does nothing."""
        if self._open:
            self._write(_LEAVE)
            self._open = False

    def _write(self, text: str) -> None:
        try:
            self._stream.write(text)
            self._stream.flush()
        except (OSError, ValueError):
            self._open = False


class _Frame(io.TextIOWrapper):
    """What is printed, for a stream of this encoding."""

    def __init__(self, encoding: str) -> None:
        self._bytes = io.BytesIO()
        super().__init__(self._bytes, encoding, errors="backslashreplace", newline="\n")

    def take(self) -> str:
        """All of it, once."""
        self.flush()
        text = self._bytes.getvalue().decode(self.encoding)
        self._bytes.seek(0)
        self._bytes.truncate()
        return text
