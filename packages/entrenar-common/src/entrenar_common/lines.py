"""Lines of a view that fills a terminal: pieces of text in styles, cut where they are too wide."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from rich.cells import cell_len, set_cell_size
from rich.console import Console, ConsoleOptions, RenderResult
from rich.segment import Segment

from entrenar_common.plot import ASCII, UNICODE, Glyphs

__all__ = ["Line", "Lines", "Piece"]

Piece = tuple[str, str]
Line = list[Piece]
"""Texts with the names of their styles."""


class Lines:
    """What `make` gives for the glyphs that the console can show, at most `width` columns wide.

    Lines are segments at once: rich wraps and measures nothing, which is most of what drawing
    costs.
    """

    def __init__(self, make: Callable[[Glyphs], Sequence[Line]], width: int) -> None:
        self._make, self._width = make, width

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        glyphs = ASCII if options.ascii_only else UNICODE
        for number, line in enumerate(self._make(glyphs)):
            if number:
                yield Segment.line()
            for text, style in _fitted(line, self._width, glyphs):
                yield Segment(text, console.get_style(style) if style else None)


def _fitted(line: Line, width: int, glyphs: Glyphs) -> Iterator[Piece]:
    """The pieces of a line, cut where it is wider than `width`."""
    pieces = [(_encodable(text, glyphs), style) for text, style in line if text]
    if sum(cell_len(text) for text, _ in pieces) <= width:
        yield from pieces
        return
    left = width - 1
    for text, style in pieces:
        if cell_len(text) > left:
            yield set_cell_size(text, left) + glyphs.ellipsis, style
            return
        yield text, style
        left -= cell_len(text)


def _encodable(text: str, glyphs: Glyphs) -> str:
    if glyphs is UNICODE:
        return text
    plain = text.replace("–", "-").replace("±", "+-").replace("→", "->")
    return plain.encode("ascii", "backslashreplace").decode()
