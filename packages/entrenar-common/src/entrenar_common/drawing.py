"""A view that is drawn on a screen again and again while work goes on, and what is written then."""

from __future__ import annotations

import contextlib
import io
import sys
import threading
import time
from collections.abc import Callable
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import RenderableType

    from entrenar_common.screen import Screen

__all__ = ["INTERVAL", "Drawing", "View", "say"]

INTERVAL = 0.25
"""Seconds between two drawings, at least."""

_PAUSE = (
    60  # so many times what a drawing took is the least pause after it: less than 2 % goes there
)

View = Callable[[int, int], "RenderableType"]
"""What is shown, for so many columns and lines."""


class Drawing:
    """Shows what `view` gives on `screen`, from `open` to `close`, in a thread of its own.

    `view` is asked in that thread for what there is to show now, None for nothing. What others
    write to standard error meanwhile is passed to `written` line by line, and comes out when the
    screen is given back.
    """

    def __init__(
        self,
        screen: Screen,
        view: Callable[[], View | None],
        *,
        written: Callable[[str], None],
        interval: float = INTERVAL,
    ) -> None:
        self._screen, self._view, self._written = screen, view, written
        self._interval = interval
        self._over = threading.Event()
        self._thread: threading.Thread | None = None
        self._before: IO[str] | None = None
        self._kept: _Kept | None = None

    def open(self) -> None:
        """Take the terminal, and draw for the first time."""
        self._before, self._kept = sys.stderr, _Kept(self._written)
        sys.stderr = self._kept
        self._screen.open()
        self.draw()
        self._over.clear()
        self._thread = threading.Thread(target=self._draw_until_over, name="live", daemon=True)
        self._thread.start()

    def draw(self) -> None:
        """Show what there is now."""
        view = self._view()
        if view is not None:
            self._screen.draw(view)

    def close(self) -> None:
        """Give the terminal back. Closing twice does nothing."""
        if self._thread is not None:
            self._over.set()
            self._thread.join()
            self._thread = None
        self._screen.close()
        kept, self._kept = self._kept, None
        if kept is not None and self._before is not None:
            if sys.stderr is kept:
                sys.stderr = self._before
            say(kept.text())

    def _draw_until_over(self) -> None:
        pause = self._interval
        while not self._over.wait(pause):
            began = time.thread_time()
            self.draw()
            pause = max(self._interval, _PAUSE * (time.thread_time() - began))


def say(text: str) -> None:
    """Write to standard error, of which nobody may be left to read it."""
    with contextlib.suppress(OSError, ValueError):
        if text:
            sys.stderr.write(text)
            sys.stderr.flush()


class _Kept(io.TextIOBase):
    """In the place of standard error while the screen is shown: keeps what is written."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        super().__init__()
        self._tell, self._text, self._line = tell, [], ""

    def writable(self) -> bool:
        return True

    def isatty(self) -> bool:
        return False

    def write(self, text: str) -> int:
        self._text.append(text)
        *lines, self._line = (self._line + text).split("\n")
        for line in lines:
            if line.strip():
                self._tell(line)
        return len(text)

    def text(self) -> str:
        """All that was written, ended by a newline."""
        whole = "".join(self._text)
        return whole if not whole or whole.endswith("\n") else whole + "\n"
