"""Figures of a report as inline SVG that fills the page, with their letters beside it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import groupby

from entrenar_bench.report.document import KEY, Curves, DotRow, Dots, Panel, Sweep, number
from entrenar_bench.report.scales import CurveScale, Scale, drawn_points, extent, extent_of_curves
from entrenar_core.train.chart import escaped
from entrenar_core.train.scale import labels_of

__all__ = ["FIGURE_STYLE", "curves_svg", "dots_svg", "sweep_svg"]

_WIDTH, _HEIGHT, _STRIP = 1000, 300, 40
_BINS = 60  # stretches of steps of which the least and the greatest loss are drawn
_APART = 0.14  # of the width: labels that are nearer hide each other

FIGURE_STYLE = """
.dots, .sweep { margin: 1.25rem 0; }
.strips { display: grid; grid-template-columns: minmax(4rem, max-content) minmax(0, 1fr) auto;
  gap: 0 .75rem; align-items: center; font-size: .875rem; max-width: 60rem; }
.strips .name { max-width: 16rem; }
.strips svg { display: block; width: 100%; height: 1.75rem; overflow: visible; }
.strips .lost-runs { color: var(--soft); font-size: .75rem; }
.strips .across { grid-column: 2; }
.across { display: flex; justify-content: space-between; font-size: .75rem; color: var(--soft);
  font-variant-numeric: tabular-nums; padding-top: .25rem; }
.across span { width: 0; display: flex; justify-content: center; white-space: nowrap; }
.places { grid-column: 2; position: relative; height: 1.5rem; font-size: .75rem; }
.places span { position: absolute; top: .25rem; width: 0; display: flex; justify-content: center;
  white-space: nowrap; font-variant-numeric: tabular-nums; }
.range { stroke: var(--line); stroke-width: 2; }
.mean { stroke: var(--ink); stroke-width: 2; stroke-linecap: butt; }
.dot { stroke: var(--mark); stroke-width: 6; }
.run { stroke: var(--line); stroke-width: 1; }
.run.stopped { stroke: var(--lost); stroke-dasharray: 4 3; }
.sweep { max-width: 48rem; padding-right: 1.5rem; }
.panels { display: grid; gap: 1rem 1.5rem;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 14rem), 1fr)); }
.panels svg { height: 7rem; }
.panels .name { font-size: .875rem; }
@media (max-width: 30rem) {
  .strips { grid-template-columns: minmax(0, 1fr); padding: 0 1rem; }
  .strips .name { margin-top: .35rem; max-width: none; }
  .strips .across { grid-column: 1; }
}
""".strip()


def dots_svg(found: Dots) -> str:
    """A strip for each arm, below them the scale that they share."""
    scale = extent(found.rows)
    lines = [line for row in found.rows for line in _strip(row, scale)]
    ticks = "".join(f"<span>{label}</span>" for label in labels_of(scale.ticks))
    return _figure(
        "chart dots",
        found.title,
        [
            '<div class="strips">',
            *lines,
            f'<div class="across">{ticks}</div>',
            "</div>",
            f'<p class="caption">{KEY}</p>',
        ],
    )


def sweep_svg(found: Sweep) -> str:
    """The parameter across, the metric up; means are joined if each value has one arm."""
    scale = extent([point.row for point in found.points])
    at = [round(found.share(point) * _WIDTH) for point in found.points]
    parts = [_gridlines(scale)]
    if len(set(at)) == len(at):
        middles = [(x, _y(scale, p.row.mean)) for x, p in zip(at, found.points, strict=True)]
        parts.append(f'<path class="run" d="{_through(middles)}"/>')
    for x, point in zip(at, found.points, strict=True):
        parts += _upright(x, point.row, scale)
    logarithmic = ", logarithmic" if found.logarithmic else ""
    across = f"Across: {found.parameter}{logarithmic}. {found.key}"
    frame = [
        '<div class="frame">',
        _levels(scale),
        _drawing("".join(parts), _HEIGHT, f"{found.title}; figures in the tables"),
        f'<div class="places">{"".join(_places(found))}</div>',
        "</div>",
        f'<p class="caption">{escaped(across)}</p>',
    ]
    return _figure("chart sweep", found.title, frame)


def curves_svg(found: Curves) -> str:
    """A panel for each arm, on one scale."""
    scale = extent_of_curves(found)
    if scale is None:
        return _figure("chart", found.title, ["<p>No loss is finite.</p>"])
    beyond = " What is beyond the scale is drawn at its edge." if scale.clipped else ""
    stopped = any(not line.complete for panel in found.panels for line in panel.lines)
    dashed = " A dashed line is a run that was not finished." if stopped else ""
    caption = f"All runs of an arm, on one scale.{dashed}{beyond}"
    panels = [_panel(panel, scale) for panel in found.panels]
    return _figure(
        "chart",
        found.title,
        ['<div class="panels">', *panels, "</div>", f'<p class="caption">{caption}</p>'],
    )


def _figure(kind: str, title: str, body: Sequence[str]) -> str:
    head = [f'<figure class="{kind}"><figcaption>{escaped(title)}</figcaption>']
    return "\n".join([*head, *body, "</figure>"])


def _drawing(inner: str, height: int, spoken: str) -> str:
    return (
        f'<svg viewBox="0 0 {_WIDTH} {height}" preserveAspectRatio="none" role="img" '
        f'aria-label="{escaped(spoken)}">{inner}</svg>'
    )


def _strip(row: DotRow, scale: Scale) -> Iterator[str]:
    middle = _STRIP // 2
    parts = [f'<path class="grid" d="M0 {middle}H{_WIDTH}"/>']
    if math.isfinite(row.low) and math.isfinite(row.high):
        parts.append(
            f'<path class="range" d="M{_x(scale, row.low)} {middle}H{_x(scale, row.high)}"/>'
        )
    if math.isfinite(row.mean):
        parts.append(f'<path class="mean" d="M{_x(scale, row.mean)} 4V{_STRIP - 4}"/>')
    for seed, value in row.points:
        parts.append(_dot(_x(scale, value), middle, seed, value))
    spoken = f"{row.name}: mean {number(row.mean)} of {len(row.points)} runs"
    yield f'<span class="name">{escaped(row.name)}</span>'
    yield _drawing("".join(parts), _STRIP, spoken)
    missing = f"{row.missing} without a result" if row.missing else ""
    yield f'<span class="lost-runs">{missing}</span>'


def _upright(x: int, row: DotRow, scale: Scale) -> Iterator[str]:
    if math.isfinite(row.low) and math.isfinite(row.high):
        low, high = _y(scale, row.low), _y(scale, row.high)
        yield f'<path class="range" d="M{x} {low}V{high}"/>'
    mean = _y(scale, row.mean)
    yield f'<path class="mean" d="M{x - 10} {mean}H{x + 10}"/>'
    for seed, value in row.points:
        yield _dot(x, _y(scale, value), seed, value)


def _dot(x: int, y: int, seed: int, value: float) -> str:
    title = f"<title>seed {seed}: {number(value)}</title>"
    return f'<path class="dot" d="M{x} {y}h0">{title}</path>'


def _panel(panel: Panel, scale: CurveScale) -> str:
    lines = "".join(
        f'<path class="run{"" if line.complete else " stopped"}" d="{path}">'
        f"<title>{escaped(line.name)}</title></path>"
        for line in panel.lines
        if (path := _curve(line.points, scale))
    )
    ends = f"<span>{scale.first}</span><span>step</span><span>{scale.last}</span>"
    spoken = f"{panel.name}: losses of {len(panel.lines)} runs"
    return "\n".join(
        [
            f'<div><div class="name">{escaped(panel.name)}</div>',
            f'<div class="frame">{_levels(scale)}',
            _drawing(_gridlines(scale) + lines, _HEIGHT, spoken),
            f'<div class="steps">{ends}</div></div></div>',
        ]
    )


def _curve(points: Sequence[tuple[int, float]], scale: CurveScale) -> str:
    path = ""
    for finite, group in groupby(drawn_points(points, _BINS), key=lambda p: p[1] is not None):
        if finite:
            path += _through(
                [(round(scale.along(s) * _WIDTH), _y(scale, v)) for s, v in group if v is not None]
            )
    return path


def _through(points: Sequence[tuple[int, int]]) -> str:
    """Straight lines; a point by itself is a dot."""
    at = [f"{x} {y}" for x, y in points]
    return f"M{at[0]}" + ("".join(f"L{each}" for each in at[1:]) or "h0")


def _levels(scale: Scale) -> str:
    labels = "".join(f"<span>{label}</span>" for label in reversed(labels_of(scale.ticks)))
    return f'<div class="scale">{labels}</div>'


def _gridlines(scale: Scale) -> str:
    across = "".join(f"M0 {_y(scale, tick)}H{_WIDTH}" for tick in scale.ticks)
    return f'<path class="grid" d="{across}"/>'


def _places(found: Sweep) -> Iterator[str]:
    """The values of the parameter, each below its place, where there is room."""
    last = -1.0
    for point in found.points:
        share = found.share(point)
        if share - last >= _APART:
            yield f'<span style="left: {share:.1%}">{number(point.at)}</span>'
            last = share


def _x(scale: Scale, value: float) -> int:
    return round(scale.share(value) * _WIDTH)


def _y(scale: Scale, value: float) -> int:
    return round((1 - scale.share(value)) * _HEIGHT)
