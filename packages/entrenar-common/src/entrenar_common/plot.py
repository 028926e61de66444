"""Curves drawn with characters: a plot in braille, and sparklines; both in ASCII too (pure)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

__all__ = ["ASCII", "UNICODE", "Glyphs", "Points", "framed", "plot", "scale_labels", "sparkline"]

# A braille character is 2 dots wide and 4 high; the bits of its columns, from the top dot down.
_DOTS = ((0x01, 0x02, 0x04, 0x40), (0x08, 0x10, 0x20, 0x80))

Points = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Glyphs:
    """What is drawn with: `across` by `down` dots in a character, and the marks of everything."""

    across: int
    down: int
    mark: str
    levels: str
    done: str
    left: str
    axis: str
    corner: str
    floor: str
    ellipsis: str


UNICODE = Glyphs(2, 4, "●", "▁▂▃▄▅▆▇█", "━", "─", "┤", "└", "─", "…")
ASCII = Glyphs(1, 1, "o", "_.:-=+*#", "#", "-", "|", "+", "-", "~")


def plot(
    line: Points,
    marks: Points,
    *,
    columns: int,
    rows: int,
    steps: tuple[float, float],
    scale: tuple[float, float],
    glyphs: Glyphs,
) -> list[str]:
    """`rows` lines of `columns` characters: a curve through (step, value), and single points.

    `steps` are those at the left and right border, `scale` the values at the bottom and at the top.
    Neighbours of the curve are joined; values of one column of dots are averaged. `line` is in the
    order of its steps, which are between `steps`, and has at least one point.
    """
    across, down = columns * glyphs.across, rows * glyphs.down
    cells = [[0] * columns for _ in range(rows)]
    before: int | None = None
    for x, row in _joined(_columns(line, across, steps), down, scale):
        low = row if before is None or before >= row else before + 1
        high = row if before is None or before <= row else before - 1
        for dot in range(low, high + 1):
            bit = _DOTS[x % 2][dot % 4] if glyphs is UNICODE else 1
            cells[dot // glyphs.down][x // glyphs.across] |= bit
        before = row
    shown = [[_character(cell, glyphs) if cell else " " for cell in row] for row in cells]
    for step, value in marks:
        column = _place(step, steps, columns)
        shown[_row(value, rows, scale)][column] = glyphs.mark
    return ["".join(row) for row in shown]


@dataclass(frozen=True)
class Framed:
    """A plot with what stands around it: a label at the left of each row, both apart by
    `glyphs.axis`; the floor below them, and the steps at its ends."""

    labels: list[str]
    rows: list[str]
    floor: str
    below: str


def framed(
    line: Points,
    marks: Points,
    *,
    width: int,
    rows: int,
    steps: tuple[float, float],
    glyphs: Glyphs,
) -> Framed | None:
    """A plot as high as its values reach, `width` columns wide in all and `rows` + 2 lines high;
    None where there is no room. The arguments are those of `plot`."""
    values = [value for _, value in (*line, *marks)]
    scale = (min(values), max(values))
    labels = scale_labels(scale, rows)
    margin = len(labels[0])
    columns = width - margin - 1
    if columns < 1:
        return None
    first, last = (f"{step:.0f}" for step in steps)
    below = first if first == last else first + last.rjust(columns - len(first))
    return Framed(
        labels,
        plot(line, marks, columns=columns, rows=rows, steps=steps, scale=scale, glyphs=glyphs),
        " " * margin + glyphs.corner + glyphs.floor * columns,
        " " * (margin + 1) + below,
    )


def scale_labels(scale: tuple[float, float], rows: int) -> list[str]:
    """What stands at the left of `rows` rows: the scale at the top, middle and bottom one, with as
    many digits as tell it apart."""
    low, high = scale
    span = (high - low) or abs(low) or 1.0
    digits = min(12, max(0, 2 - math.floor(math.log10(span))))
    form = f".{digits}f" if max(abs(low), abs(high)) < 1e7 else ".3g"
    middle = (rows - 1) // 2
    texts = {
        row: format(high - (high - low) * row / (rows - 1), form) for row in (0, middle, rows - 1)
    }
    if low == high:  # a constant is drawn in the middle
        texts = {middle: format(low, form)}
    widest = max(map(len, texts.values()))
    return [f"{texts.get(row, ''):>{widest}} " for row in range(rows)]


def sparkline(points: Points, columns: int, *, glyphs: Glyphs) -> str:
    """At most `columns` characters that are the higher, the greater the values; the least is the
    lowest, the greatest of a column counts.

    >>> sparkline([(1, 1.0), (2, 2.0), (3, 8.0)], 3, glyphs=UNICODE)
    '▁▂█'
    """
    if not points or columns < 1:
        return ""
    first, last = points[0][0], points[-1][0]
    per_step = (min(columns, len(points)) - 1) / (last - first) if last > first else 0.0
    greatest: dict[int, float] = {}
    for step, value in points:
        column = int((step - first) * per_step + 0.5)
        if column not in greatest or value > greatest[column]:
            greatest[column] = value
    low, high = min(greatest.values()), max(greatest.values())
    factor = (len(glyphs.levels) - 1) / (high - low) if _drawable(high - low) else 0.0
    shown, level = "", 0
    for column in range(max(greatest) + 1):
        if column in greatest:
            level = int((greatest[column] - low) * factor + 0.5)
        shown += glyphs.levels[level]
    return shown


def _drawable(span: float) -> bool:
    return math.isfinite(span) and span > 0


def _columns(line: Points, across: int, steps: tuple[float, float]) -> list[tuple[int, float]]:
    """The mean of what falls on each column of dots, where something does."""
    first, last = steps
    per_step = (across - 1) / (last - first) if last > first else 0.0
    found: dict[int, list[float]] = {}
    for step, value in line:
        found.setdefault(int((step - first) * per_step + 0.5), []).append(value)
    return [(column, sum(values) / len(values)) for column, values in found.items()]


def _joined(
    points: list[tuple[int, float]], down: int, scale: tuple[float, float]
) -> Iterator[tuple[int, int]]:
    """The row of dots of each column from the first point to the last, on straight lines."""
    low, high = scale
    per_value = (down - 1) / (high - low) if _drawable(high - low) else 0.0
    top = 0.5 if per_value else down / 2
    x, at = points[0][0] - 1, 0.0
    for column, value in points:
        end = (high - value) * per_value + top
        slope = (end - at) / (column - x)
        for each in range(x + 1, column):
            yield each, int(at + (each - x) * slope)
        yield column, int(end)
        x, at = column, end


def _place(step: float, steps: tuple[float, float], columns: int) -> int:
    first, last = steps
    if last <= first:
        return 0
    return min(columns - 1, max(0, int((step - first) / (last - first) * (columns - 1) + 0.5)))


def _row(value: float, rows: int, scale: tuple[float, float]) -> int:
    """0 is the top."""
    low, high = scale
    share = (high - value) / (high - low) if _drawable(high - low) else 0.5
    return min(rows - 1, max(0, int(share * (rows - 1) + 0.5)))


def _character(cell: int, glyphs: Glyphs) -> str:
    return chr(0x2800 + cell) if glyphs is UNICODE else "*"
