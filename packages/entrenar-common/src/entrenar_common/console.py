"""The look of all output: styles as data, and consoles made from them (rich on demand)."""

from __future__ import annotations

import os
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["STYLES", "is_terminal", "make_console", "paint", "wants_color"]

# Every style by what it means, in rich's words. Only the 16 colours that a terminal's own theme
# defines, so that all of it is readable on light and on dark backgrounds.
STYLES = {
    "error": "bold red",
    "warning": "bold yellow",
    "hint": "cyan",
    "note": "dim",
    "good": "green",
    "bad": "red",
    "title": "bold",
    "column": "bold",
    "name": "cyan",
    "frame": "dim",
    "caption": "dim",
    "bar.complete": "cyan",
    "bar.finished": "green",
    "bar.pulse": "cyan",
    "progress.task": "bold",
    "progress.steps": "none",
    "progress.fields": "none",
    "progress.time": "dim",
}

_SGR = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33", "cyan": "36"}


def is_terminal(stream: IO[str]) -> bool:
    """Whether `stream` is a terminal that can move its cursor."""
    return stream.isatty() and os.environ.get("TERM", "").lower() not in {"dumb", "unknown"}


def wants_color(stream: IO[str], *, color: bool | None = None) -> bool:
    """Whether to colour what goes to `stream`: `color`, NO_COLOR, FORCE_COLOR, then the terminal.

    The first that is set decides; see https://no-color.org.
    """
    if color is not None:
        return color
    if os.environ.get("NO_COLOR"):
        return False
    return bool(os.environ.get("FORCE_COLOR")) or is_terminal(stream)


def paint(text: str, style: str) -> str:
    r"""`text` in a style of STYLES as a terminal's escape sequence, without importing rich.

    >>> paint("no", "error")
    '\x1b[1;31mno\x1b[0m'
    """
    codes = ";".join(_SGR[word] for word in STYLES[style].split())
    return f"\x1b[{codes}m{text}\x1b[0m"


def make_console(
    stream: IO[str], *, color: bool | None = None, width: int | None = None
) -> Console:
    """A rich console on `stream` that prints text as it is: no markup, emoji codes or highlights.

    `width` is the terminal's by default, and 80 for a file or a pipe. Without colour there is no
    escape sequence at all, not even for bold.
    """
    from rich.console import Console
    from rich.theme import Theme

    colored = wants_color(stream, color=color)
    return Console(
        file=stream,
        theme=Theme(STYLES),
        width=width,
        color_system="auto" if colored else None,
        force_terminal=True if colored else is_terminal(stream),
        no_color=False,
        markup=False,
        emoji=False,
        highlight=False,
    )
