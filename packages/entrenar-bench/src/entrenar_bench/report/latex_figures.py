"""Figures of a report in LaTeX's own `picture`, in millimetres: no package draws them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import groupby, pairwise

from entrenar_bench.report.document import KEY, Curves, DotRow, Dots, Panel, Sweep, number
from entrenar_bench.report.latex_text import breakable, latex_text
from entrenar_bench.report.scales import CurveScale, Scale, drawn_points, extent, extent_of_curves
from entrenar_common.text import escape_controls
from entrenar_core.train.scale import labels_of

__all__ = ["curves_picture", "dots_picture", "sweep_picture"]

_NAMES, _WIDTH, _LOST, _ROW = 42, 98, 28, 5
_ROWS = 35  # of a picture on one page
_SHORT = 26  # characters of a name beside a drawing; its table has the whole
_TALL, _WIDE, _SMALL = 55, 48, 26
_INSET = 6  # from an axis to the first and the last place along it
_BINS = 12


def dots_picture(found: Dots) -> Iterator[str]:
    """Arm below arm, on one scale."""
    scale = extent(found.rows)
    for start in range(0, len(found.rows), _ROWS):
        yield from _strips(found.rows[start : start + _ROWS], scale)
    yield f"{{\\small {latex_text(KEY)}\\par}}"


def sweep_picture(found: Sweep) -> Iterator[str]:
    """The parameter across, the metric up."""
    scale = extent([point.row for point in found.points])
    yield f"\\begin{{picture}}({_NAMES + _WIDTH},{_TALL + 10})(-{_NAMES},-8)"
    yield from _levels(scale, _WIDTH, _TALL)
    for point in found.points:
        x = _INSET + found.share(point) * (_WIDTH - 2 * _INSET)
        yield from _upright(x, point.row, scale)
    low, high = found.points[0].at, found.points[-1].at
    yield _text(_INSET - 10, -6, 20, "", number(low))
    yield _text(_WIDTH - _INSET - 10, -6, 20, "", number(high))
    logarithmic = ", logarithmic" if found.logarithmic else ""
    yield _text(25, -6, _WIDTH - 50, "", f"{_short(found.parameter)}{logarithmic}")
    yield r"\end{picture}\par"
    yield f"{{\\small {latex_text(found.key)}\\par}}"


def curves_picture(found: Curves) -> Iterator[str]:
    """A small picture for each arm, three beside each other, on one scale."""
    scale = extent_of_curves(found)
    if scale is None:
        yield "No loss is finite."
        return
    for panel in found.panels:
        yield r"\begin{minipage}[t]{0.32\textwidth}\scriptsize"
        yield f"{breakable(_short(panel.name))}\\par"
        yield from _panel(panel, scale)
        yield r"\end{minipage}\hspace{0.01\textwidth}"
    caption = f"All runs of an arm, steps {scale.first} to {scale.last}."
    beyond = " What is beyond the scale is drawn at its edge." if scale.clipped else ""
    yield f"\\par{{\\small {latex_text(caption + beyond)}\\par}}"


def _strips(rows: Sequence[DotRow], scale: Scale) -> Iterator[str]:
    height = len(rows) * _ROW
    yield f"\\begin{{picture}}({_NAMES + _WIDTH + _LOST},{height + 8})(-{_NAMES},-6)"
    for index, row in enumerate(rows):
        y = height - (index + 0.5) * _ROW
        yield _text(-_NAMES, y - 2, _NAMES - 3, "l", _short(row.name))
        yield from _flat(y, row, scale)
        if row.missing:
            yield _text(_WIDTH + 2, y - 2, _LOST - 2, "l", f"{row.missing} without a result")
    labels = labels_of(scale.ticks)
    for tick, label in zip(scale.ticks, labels, strict=True):
        x = scale.share(tick) * _WIDTH
        yield _put(x, 0, r"\line(0,-1){1}")
        yield _text(x - 10, -5, 20, "", label)
    yield _put(0, 0, f"\\line(1,0){{{_WIDTH}}}")
    yield r"\end{picture}\par"


def _flat(y: float, row: DotRow, scale: Scale) -> Iterator[str]:
    if math.isfinite(row.low) and math.isfinite(row.high):
        low, high = (scale.share(v) * _WIDTH for v in (row.low, row.high))
        yield _put(low, y, f"\\line(1,0){{{high - low:.2f}}}")
    if math.isfinite(row.mean):
        yield _put(scale.share(row.mean) * _WIDTH, y - 1.5, r"\line(0,1){3}")
    for _, value in row.points:
        yield _put(scale.share(value) * _WIDTH, y, r"\circle*{1.2}")


def _upright(x: float, row: DotRow, scale: Scale) -> Iterator[str]:
    if math.isfinite(row.low) and math.isfinite(row.high):
        low, high = (scale.share(v) * _TALL for v in (row.low, row.high))
        yield _put(x, low, f"\\line(0,1){{{high - low:.2f}}}")
    yield _put(x - 1.5, scale.share(row.mean) * _TALL, r"\line(1,0){3}")
    for _, value in row.points:
        yield _put(x, scale.share(value) * _TALL, r"\circle*{1.2}")


def _levels(scale: Scale, width: float, height: float) -> Iterator[str]:
    for tick, label in zip(scale.ticks, labels_of(scale.ticks), strict=True):
        y = scale.share(tick) * height
        yield _put(-1, y, r"\line(1,0){1}")
        yield _text(-16, y - 2, 14, "r", label)
    yield _put(0, 0, f"\\line(0,1){{{height}}}")
    yield _put(0, 0, f"\\line(1,0){{{width}}}")


def _panel(panel: Panel, scale: CurveScale) -> Iterator[str]:
    yield f"\\begin{{picture}}({_WIDE},{_SMALL + 4})(-17,-2)"
    across = _WIDE - 18
    yield from _levels(scale, across, _SMALL)
    for line in panel.lines:
        for finite, group in groupby(
            drawn_points(line.points, _BINS), key=lambda p: p[1] is not None
        ):
            if finite:
                at = [
                    (scale.along(s) * across, scale.share(v) * _SMALL)
                    for s, v in group
                    if v is not None
                ]
                yield from _joined(at)
    yield r"\end{picture}"


def _joined(points: Sequence[tuple[float, float]]) -> Iterator[str]:
    """Straight lines at any slope, which of LaTeX's own commands only a Bézier curve can be."""
    if len(points) == 1:
        yield _put(*points[0], r"\circle*{0.6}")
    for (a, b), (c, d) in pairwise(points):
        middle = f"({(a + c) / 2:.2f},{(b + d) / 2:.2f})"
        yield f"\\qbezier({a:.2f},{b:.2f}){middle}({c:.2f},{d:.2f})"


def _put(x: float, y: float, what: str) -> str:
    return f"\\put({x:.2f},{y:.2f}){{{what}}}"


def _text(x: float, y: float, width: float, side: str, text: str) -> str:
    place = f"[{side}]" if side else ""
    return _put(x, y, f"\\makebox({width:g},4){place}{{\\scriptsize {latex_text(text)}}}")


def _short(name: str) -> str:
    name = escape_controls(name)
    return name if len(name) <= _SHORT else f"{name[: _SHORT - 1]}…"
