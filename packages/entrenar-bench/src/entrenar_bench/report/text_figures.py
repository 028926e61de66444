"""Figures of a report drawn with characters: dots on lines, and losses as small bars."""

from __future__ import annotations

import math
from collections.abc import Sequence

from entrenar_bench.report.document import Curves, DotRow, Dots, Sweep, number
from entrenar_bench.report.scales import Scale, extent
from entrenar_common.plot import UNICODE, sparkline
from entrenar_common.text import escape_controls
from entrenar_core.train.scale import labels_of

__all__ = ["curves_lines", "dots_lines", "sweep_lines"]

_COLUMNS = 48
_NAME = 24  # characters of a name that stand beside a drawing; its table has the whole


def dots_lines(found: Dots) -> list[str]:
    """A line for each arm: `o` is a run (a digit: so many), `|` the mean, `-` its interval."""
    return _strips([(row.name, row) for row in found.rows])


def sweep_lines(found: Sweep) -> list[str]:
    """A line for each value of the parameter, drawn as `dots_lines` draws arms."""
    lines = _strips([(number(point.at), point.row) for point in found.points])
    return [f"{escape_controls(found.parameter)}:", *lines]


def curves_lines(found: Curves) -> list[str]:
    """A line for each run: its losses, each from its own least to its own greatest."""
    lines: list[str] = []
    for panel in found.panels:
        lines.append(panel.name)
        width = max(len(line.name) for line in panel.lines)
        for line in panel.lines:
            finite = [(step, value) for step, value in line.points if math.isfinite(value)]
            drawn = sparkline(finite, _COLUMNS, glyphs=UNICODE) or "no finite loss"
            lines.append(f"  {line.name:<{width}}  {drawn}{'' if line.complete else '  stopped'}")
    return lines


def _strips(named: Sequence[tuple[str, DotRow]]) -> list[str]:
    scale = extent([row for _, row in named])
    names = [_short(name) for name, _ in named]
    width = max(map(len, names))
    lines = [
        f"{name:<{width}}  {_strip(row, scale)}{_missing(row)}"
        for name, (_, row) in zip(names, named, strict=True)
    ]
    labels = labels_of(scale.ticks)
    low, high = labels[0], labels[-1]
    ends = f"{low}{high.rjust(_COLUMNS - len(low))}"
    return [*lines, f"{'':<{width}}  {ends}", "", "o run (a digit: so many), | mean, - interval"]


def _strip(row: DotRow, scale: Scale) -> str:
    cells = [" "] * _COLUMNS
    if math.isfinite(row.low) and math.isfinite(row.high):
        for at in range(_place(row.low, scale), _place(row.high, scale) + 1):
            cells[at] = "-"
    if math.isfinite(row.mean):
        cells[_place(row.mean, scale)] = "|"
    counts: dict[int, int] = {}
    for _, value in row.points:
        at = _place(value, scale)
        counts[at] = counts.get(at, 0) + 1
    for at, count in counts.items():
        cells[at] = "o" if count == 1 else str(count) if count < 10 else "#"
    return "".join(cells)


def _place(value: float, scale: Scale) -> int:
    return round(scale.share(value) * (_COLUMNS - 1))


def _missing(row: DotRow) -> str:
    return f"  {row.missing} without a result" if row.missing else ""


def _short(name: str) -> str:
    name = escape_controls(name)
    return name if len(name) <= _NAME else f"{name[: _NAME - 1]}…"
