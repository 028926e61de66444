"""Loss curves as text, drawn in braille: one panel for each series, all on one scale (pure)."""

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise

__all__ = ["curve"]

_PANEL_MIN = 18  # columns below which a panel says nothing
_GAP = 2
# A braille character is 2 dots wide and 4 high; the bits of its columns, from the top dot down.
_DOTS = ((0x01, 0x02, 0x04, 0x40), (0x08, 0x10, 0x20, 0x80))

Points = Sequence[tuple[float, float]]


def curve(points: Mapping[str, Points], width: int = 78, height: int = 8) -> list[str]:
    """The lines of a plot of (step, loss) series, at most `width` columns wide.

    Every series has a panel of `height` lines with its own steps below it and the scale of the
    losses shared by all; values that fall on the same dot are averaged, and what is not finite is
    left out. Panels that do not fit beside each other are put below each other.

    >>> for line in curve({"student": [(1, 4.0), (2, 2.0), (3, 1.0)]}, width=26, height=2):
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
    labels = _labels(lowest, highest, height)
    margin = len(labels[0])
    fitting = max(1, (width - margin) // (_PANEL_MIN + _GAP))
    names = list(finite)
    lines: list[str] = []
    for start in range(0, len(names), fitting):
        beside = names[start : start + fitting]
        across = min(len(names), fitting)
        columns = max(_PANEL_MIN, (width - margin) // across - _GAP)
        panels = [_panel(n, finite[n], columns, height, (lowest, highest)) for n in beside]
        left = [" " * margin, *labels, " " * margin, " " * margin]
        rows = zip(left, *panels, strict=True)
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


def _labels(lowest: float, highest: float, height: int) -> list[str]:
    """The scale at the top, middle and bottom line, with as many digits as tell it apart."""
    digits = max(0, 2 - math.floor(math.log10(highest - lowest)))
    texts = {
        row: f"{highest - (highest - lowest) * row / max(1, height - 1):.{digits}f}"
        for row in {0, height // 2, height - 1}
    }
    width = max(map(len, texts.values()))
    return [f"{texts.get(row, ''):>{width}} " for row in range(height)]


def _panel(
    name: str, series: Points, columns: int, height: int, scale: tuple[float, float]
) -> list[str]:
    """Title, plot, axis and steps, each `columns` + gap wide."""
    inner = columns - 1  # the axis takes one
    dots = _interpolated(_binned(series, 2 * inner))
    plot = _rasterized(dots, inner, height, scale)
    first, last = f"{series[0][0]:g}", f"{series[-1][0]:g}"
    ends = f"{series[0][1]:.4g} → {series[-1][1]:.4g}"
    title = f"{name} {ends}" if len(name) + 1 + len(ends) <= inner else name[:inner]
    below = first if first == last else first + last.rjust(inner - len(first))
    lines = [f" {title}", *(f"┤{row}" for row in plot), "└" + "─" * inner, f" {below}"]
    return [line[:columns].ljust(columns + _GAP) for line in lines]


def _binned(series: Points, count: int) -> list[float | None]:
    """The mean of the values in each of `count` equal ranges of steps; None where there is none."""
    first, last = series[0][0], series[-1][0]
    span = (last - first) or 1.0
    sums, counts = [0.0] * count, [0] * count
    for x, y in series:
        index = min(count - 1, int((x - first) / span * count))
        sums[index] += y
        counts[index] += 1
    return [total / n if n else None for total, n in zip(sums, counts, strict=True)]


def _interpolated(values: Sequence[float | None]) -> list[float | None]:
    """`values` with straight lines across its gaps; what lies after the last one stays empty."""
    filled = list(values)
    known = [(i, value) for i, value in enumerate(values) if value is not None]
    for (i, left), (j, right) in pairwise(known):
        for k in range(i + 1, j):
            filled[k] = left + (right - left) * (k - i) / (j - i)
    return filled


def _rasterized(
    values: Sequence[float | None], columns: int, height: int, scale: tuple[float, float]
) -> list[str]:
    """Braille lines of a curve with two values a column, neighbours joined by vertical strokes."""
    lowest, highest = scale
    cells = [[0] * columns for _ in range(height)]
    before: int | None = None
    for x, value in enumerate(values):
        if value is None:
            continue
        share = (highest - value) / (highest - lowest)
        y = min(4 * height - 1, max(0, round(share * (4 * height - 1))))
        joined = range(min(y, before + 1), max(y, before - 1) + 1) if before is not None else [y]
        for dot in joined:
            cells[dot // 4][x // 2] |= _DOTS[x % 2][dot % 4]
        before = y
    return ["".join(chr(0x2800 + cell) if cell else " " for cell in row) for row in cells]
