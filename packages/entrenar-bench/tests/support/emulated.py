"""A terminal that understands what is written to it, as pyte does."""

import io

import pyte

from entrenar_common.screen import Screen

__all__ = ["Emulated", "Terminal"]


class Terminal(io.StringIO):
    """Takes text for a terminal of a size that can be changed; `rows` are its lines as one sees
    them, and `frames` counts writes."""

    encoding = "utf-8"

    def __init__(self, columns: int = 80, lines: int = 24) -> None:
        super().__init__()
        self.screen = pyte.Screen(columns, lines)
        self._stream = pyte.Stream(self.screen)
        self.frames = 0

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> int:
        self.frames += 1
        self._stream.feed(text)
        return super().write(text)

    def resize(self, columns: int, lines: int) -> None:
        """As when the user drags a corner of the window."""
        self.screen.resize(lines, columns)

    @property
    def rows(self) -> list[str]:
        return [line.rstrip() for line in self.screen.display]


class Emulated(Screen):
    """A screen on such a terminal, without colour."""

    def __init__(self, terminal: Terminal) -> None:
        super().__init__(terminal, color=False)
        self.terminal = terminal

    @property
    def size(self) -> tuple[int, int]:
        return self.terminal.screen.columns, self.terminal.screen.lines
