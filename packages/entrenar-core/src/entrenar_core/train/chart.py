"""A number over the steps of a training as inline SVG, with its scale beside it as HTML (pure).

The drawing is stretched to the width that there is, and everything with letters is outside of it:
so it can be read on a telephone as on a desk. Lines keep their thickness (`non-scaling-stroke`).
"""

import html
import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter

from entrenar_common.text import escape_controls
from entrenar_core.train.scale import labels_of, ticks_of

__all__ = ["Chart", "chart", "escaped", "extremes"]

_WIDTH, _HEIGHT = 1000, 300  # units of the drawing
_BINS = 400  # stretches of steps of which the least and the greatest value are drawn

Point = tuple[int, float | None]


@dataclass(frozen=True)
class Chart:
    """What is drawn.

    line:  (step, value) of every step, in order; None where it was not finite
    marks: single points, with names for those who point at them
    unit:  what values are counted in, after their numbers
    """

    title: str
    line: Sequence[Point]
    marks: Sequence[Point] = ()
    unit: str = ""


def chart(found: Chart) -> str:
    """The figure of `found`: title, scale, drawing and steps, as HTML."""
    values = [v for _, v in (*found.line, *found.marks) if v is not None]
    title = f"<figcaption>{escaped(found.title)}</figcaption>"
    if not values:
        return f'<figure class="chart">{title}<p>No finite value.</p></figure>'
    ticks = ticks_of(min(values), max(values))
    steps = [step for step, _ in (*found.line, *found.marks)]
    first, last = min(steps), max(steps)
    place = _Placing(first, last, ticks[0], ticks[-1])
    labels = "".join(f"<span>{text}{found.unit}</span>" for text in reversed(labels_of(ticks)))
    ends = f"<span>{first}</span><span>step</span>"
    return (
        f'<figure class="chart">{title}<div class="frame"><div class="scale">{labels}</div>'
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" preserveAspectRatio="none" role="img" '
        f'aria-label="{escaped(_spoken(found))}">{_drawing(found, ticks, place)}</svg>'
        f'<div class="steps">{ends}{f"<span>{last}</span>" if last > first else ""}</div>'
        "</div></figure>"
    )


def extremes(line: Sequence[Point], bins: int = _BINS) -> list[Point]:
    """`line` in few points: of each of `bins` equal stretches of steps the least and the greatest
    value, in their order, so that no peak is lost. What is not finite parts them, as None."""
    if not line:
        return []
    first, last = line[0][0], line[-1][0]
    width = max(1, -(-(last - first + 1) // bins))
    kept: list[Point] = []
    for _, group in groupby(line, key=lambda point: (point[0] - first) // width):
        points = list(group)
        finite = [(value, step) for step, value in points if value is not None]
        if finite:
            ends = {min(finite, key=itemgetter(0)), max(finite, key=itemgetter(0))}
            kept += [(step, value) for value, step in ends]
        if len(finite) < len(points):
            kept.append(next(p for p in points if p[1] is None))
    return sorted(kept, key=itemgetter(0))


def escaped(text: str) -> str:
    """Text from anywhere as HTML that shows it and does nothing else."""
    return html.escape(escape_controls(text))


@dataclass(frozen=True)
class _Placing:
    """From steps and values to units of the drawing."""

    first: int
    last: int
    low: float
    high: float

    def x(self, step: int) -> int:
        if self.last == self.first:
            return _WIDTH // 2
        return round((step - self.first) / (self.last - self.first) * _WIDTH)

    def y(self, value: float) -> int:
        return round((self.high - value) / (self.high - self.low) * _HEIGHT)


def _drawing(found: Chart, ticks: Sequence[float], place: _Placing) -> str:
    across = "".join(f"M0 {place.y(tick)}H{_WIDTH}" for tick in ticks)
    parts = [f'<path class="grid" d="{across}"/>']
    path = _path(extremes(found.line), place)
    if path:
        parts.append(f'<path class="line" d="{path}"/>')
    lost = sorted({place.x(step) for step, value in found.line if value is None})
    if lost:
        ticked = "".join(f"M{x} {_HEIGHT}V{_HEIGHT - 24}" for x in lost)
        parts.append(f'<path class="lost" d="{ticked}"/>')
    dots = [
        (f"M{place.x(step)} {place.y(value)}h0", f"step {step}: {json.dumps(value)}")
        for step, value in extremes(found.marks)
        if value is not None
    ]
    if dots:  # on a ring that parts them from the line without colour
        parts.append(f'<path class="ring" d="{"".join(at for at, _ in dots)}"/>')
    parts += [f'<path class="mark" d="{at}"><title>{name}</title></path>' for at, name in dots]
    return "".join(parts)


def _path(points: Sequence[Point], place: _Placing) -> str:
    """Straight lines through what is finite; a point without neighbours is a dot."""
    path: list[str] = []
    for finite, group in groupby(points, key=lambda point: point[1] is not None):
        if not finite:
            continue
        at = [f"{place.x(step)} {place.y(value)}" for step, value in group if value is not None]
        path.append(f"M{at[0]}" + ("".join(f"L{each}" for each in at[1:]) or "h0"))
    return "".join(path)


def _spoken(found: Chart) -> str:
    """What the drawing shows, for those who cannot see it."""
    finite = [(step, value) for step, value in found.line if value is not None]
    if not finite:
        return found.title
    (first, start), (last, end) = finite[0], finite[-1]
    return f"{found.title}: {start:.4g} at step {first}, {end:.4g} at step {last}"
