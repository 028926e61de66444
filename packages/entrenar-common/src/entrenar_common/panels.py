"""Curves as text: one panel for each series, all on one scale, drawn in braille (pure)."""

import math
from collections.abc import Mapping

from entrenar_common.plot import UNICODE, Glyphs, Points, plot, scale_labels

__all__ = ["panels"]

_PANEL_MIN = 18  # columns below which a panel says nothing
_GAP = 2


def panels(
    points: Mapping[str, Points],
    width: int = 78,
    height: int = 8,
    *,
    least: int = _PANEL_MIN,
    glyphs: Glyphs = UNICODE,
) -> list[str]:
    """The lines of a plot of (step, loss) series, at most `width` columns wide.

    Every series has a panel of `height` lines with its own steps below it and the scale of the
    losses shared by all; values that fall on the same dot are averaged, and what is not finite is
    left out. Panels that do not fit beside each other, with `least` columns each, are put below
    each other.

    >>> for line in panels({"student": [(1, 4.0), (2, 2.0), (3, 1.0)]}, width=26, height=2):
    ...     print(line)
          student 4 → 1
    4.00 ┤⠉⠒⠒⠤⠤⣀⣀
    1.00 ┤       ⠉⠉⠒⠒⠒⠢⠤⠤⠤⣀⣀
         └──────────────────
          1                3
    """
    finite = {name: _finite(series) for name, series in points.items()}
    finite = {name: series for name, series in finite.items() if series}
    if not finite:
        return ["(no finite loss to draw)"]
    lowest, highest = _scale(finite)
    labels = scale_labels((lowest, highest), height)
    margin = len(labels[0])
    fitting = max(1, (width - margin) // (least + _GAP))
    names = list(finite)
    lines: list[str] = []
    for start in range(0, len(names), fitting):
        row = names[start : start + fitting]
        across = min(len(names), fitting)
        columns = max(_PANEL_MIN, (width - margin) // across - _GAP)
        drawn = [_panel(n, finite[n], columns, height, (lowest, highest), glyphs) for n in row]
        left = [" " * margin, *labels, " " * margin, " " * margin]
        rows = zip(left, *drawn, strict=True)
        lines += ["", *("".join(row).rstrip() for row in rows)]
    return lines[1:]


def _finite(series: Points) -> list[tuple[float, float]]:
    return sorted((float(x), float(y)) for x, y in series if math.isfinite(x) and math.isfinite(y))


def _scale(finite: Mapping[str, Points]) -> tuple[float, float]:
    values = [y for series in finite.values() for _, y in series]
    lowest, highest = min(values), max(values)
    if lowest == highest:  # a constant is drawn in the middle
        margin = abs(lowest) / 10 or 1.0
        return lowest - margin, highest + margin
    return lowest, highest


def _panel(
    name: str,
    series: Points,
    columns: int,
    height: int,
    scale: tuple[float, float],
    glyphs: Glyphs,
) -> list[str]:
    """Title, plot, axis and steps, each `columns` + gap wide."""
    inner = columns - 1  # the axis takes one
    steps = (series[0][0], series[-1][0])
    drawn = plot(series, (), columns=inner, rows=height, steps=steps, scale=scale, glyphs=glyphs)
    first, last = f"{series[0][0]:g}", f"{series[-1][0]:g}"
    arrow = "→" if glyphs is UNICODE else "->"
    ends = f"{series[0][1]:.4g} {arrow} {series[-1][1]:.4g}"
    title = f"{name} {ends}" if len(name) + 1 + len(ends) <= inner else name[:inner]
    below = first if first == last else first + last.rjust(inner - len(first))
    axis = [*(f"{glyphs.axis}{row}" for row in drawn), glyphs.corner + glyphs.floor * inner]
    lines = [f" {title}", *axis, f" {below}"]
    return [line[:columns].ljust(columns + _GAP) for line in lines]
