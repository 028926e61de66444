"""The parts of a view as rich renderables; the only module that knows how tables look."""

from collections.abc import Callable, Sequence
from typing import Any

import rich.padding
import rich.table
import rich.text
from rich import box
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult

from entrenar_common import tables
from entrenar_common.cells import format_cell, is_numeric
from entrenar_common.text import escape_controls

__all__ = ["of"]

_BAR_WIDTH = 72
_FILLS = "█▓▒░▚▞▀▄"  # what the parts of a bar are drawn with, in turn
_ASCII_FILLS = "#=+-*:%."  # the same where the encoding has none of them, as rich has its boxes
_LEAST = 0.005  # a smaller share of a bar is not drawn
_TEXT_COLUMN_MIN = 12  # what a column of text is left with before numbers are folded


def of(part: tables.Part, width: int) -> RenderableType:
    """The renderable of one part, for a console of `width` columns."""
    return _LAYOUTS[type(part)](part, width)


def _paragraph(part: tables.Text, _width: int) -> RenderableType:
    lines = (escape_controls(line) for line in part.text.split("\n"))
    return rich.text.Text("\n".join(lines), style=part.style, overflow="fold")


def _fields(part: tables.Fields, _width: int) -> RenderableType:
    values = [format_cell(_content(value)) for _, value in part.items]
    grid = rich.table.Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(style="name", no_wrap=True)
    grid.add_column(overflow="fold", justify=_justify(values))
    for (name, value), text in zip(part.items, values, strict=True):
        grid.add_row(rich.text.Text(escape_controls(name)), _cell(value, text))
    body = rich.padding.Padding.indent(grid, 2) if part.title else grid
    return _framed(part.title, body, None)


def _table(part: tables.Table, width: int) -> RenderableType:
    if not part.rows:
        return _framed(part.title, rich.text.Text("(none)", style="caption"), part.caption)
    texts = [[format_cell(_content(cell)) for cell in row] for row in part.rows]
    columns = [[row[i] for row in texts] for i in range(len(part.columns))]
    whole = _numbers_fit(part.columns, columns, width)
    table = rich.table.Table(box=box.ROUNDED, border_style="frame", header_style="column")
    for name, column in zip(part.columns, columns, strict=True):
        table.add_column(
            rich.text.Text(escape_controls(name)),
            justify=_justify(column),
            overflow="fold",
            no_wrap=whole and is_numeric(column),
        )
    for row, shown in zip(part.rows, texts, strict=True):
        table.add_row(*(_cell(cell, text) for cell, text in zip(row, shown, strict=True)))
    return _framed(part.title, table, part.caption)


class _Bar:
    """A bar of which each part has its share of the columns, and a legend below it.

    Borders are rounded where they lie, so that the parts always fill the bar.
    """

    def __init__(self, part: tables.Bar, width: int) -> None:
        self._parts = [(escape_controls(n), share) for n, share in part.parts if share >= _LEAST]
        self._width = min(_BAR_WIDTH, width)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        fills = _ASCII_FILLS if options.ascii_only else _FILLS
        bar, border, legend = "", 0.0, [""]
        for place, (name, share) in enumerate(self._parts):
            fill, border = fills[place % len(fills)], border + share
            last = place == len(self._parts) - 1
            bar += fill * ((self._width if last else round(border * self._width)) - len(bar))
            entry = f"{fill} {name} {100 * share:.0f}%"
            if legend[-1] and cell_len(legend[-1]) + 3 + cell_len(entry) > self._width:
                legend.append(entry)
            else:
                legend[-1] += f"   {entry}" if legend[-1] else entry
        yield rich.text.Text("\n".join([bar, *legend]), overflow="fold")


def _numbers_fit(names: Sequence[str], columns: Sequence[Sequence[str]], width: int) -> bool:
    """Whether the columns of numbers can stay whole while those of text keep a readable width."""
    needed = 1
    for name, column in zip(names, columns, strict=True):
        widest = max(map(cell_len, (name, *column)))
        needed += 3 + (widest if is_numeric(column) else min(widest, _TEXT_COLUMN_MIN))
    return needed <= width


def _framed(title: str | None, body: RenderableType, caption: str | None) -> RenderableType:
    above = [rich.text.Text(escape_controls(title), style="title")] if title else []
    below = [rich.text.Text(escape_controls(caption), style="caption")] if caption else []
    return Group(*above, body, *below)


def _content(cell: Any) -> Any:
    return cell.text if isinstance(cell, tables.Text) else cell


def _cell(cell: Any, text: str) -> rich.text.Text:
    return rich.text.Text(text, style=cell.style if isinstance(cell, tables.Text) else "")


def _justify(cells: Sequence[str]) -> Any:
    return "right" if is_numeric(cells) else "left"


_LAYOUTS: dict[type, Callable[[Any, int], RenderableType]] = {
    tables.Text: _paragraph,
    tables.Fields: _fields,
    tables.Table: _table,
    tables.Bar: _Bar,
}
