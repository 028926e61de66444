"""A histogram as inline SVG, with its scale beside it as HTML (pure)."""

from collections.abc import Sequence

from entrenar_bench.profile.record import Bin
from entrenar_core.train.chart import escaped
from entrenar_core.train.scale import labels_of

__all__ = ["HISTOGRAM_STYLE", "histogram"]

_WIDTH, _HEIGHT = 1000, 300  # units of the drawing
_GAP = 4

HISTOGRAM_STYLE = ".bar { fill: var(--line); }"


def histogram(title: str, bins: Sequence[Bin], *, unit: str) -> str:
    """The figure of `bins`, which are equally wide: the more steps, the higher; `unit` is of their
    bounds."""
    most = max(found.steps for found in bins)
    width = _WIDTH / len(bins)
    bars = "".join(_bar(found, place, width, most) for place, found in enumerate(bins))
    low, high = labels_of([bins[0].low, bins[-1].high])
    spoken = f"{title}: {sum(b.steps for b in bins)} steps from {low} to {high} {unit}"
    return (
        f'<figure class="chart"><figcaption>{escaped(title)}</figcaption><div class="frame">'
        f'<div class="scale"><span>{most}</span><span>0</span></div>'
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" preserveAspectRatio="none" role="img" '
        f'aria-label="{escaped(spoken)}">'
        f'<path class="grid" d="M0 0H{_WIDTH}M0 {_HEIGHT}H{_WIDTH}"></path>{bars}</svg>'
        f'<div class="steps"><span>{low}</span><span>{escaped(unit)}</span><span>{high}</span>'
        "</div></div></figure>"
    )


def _bar(found: Bin, place: int, width: float, most: int) -> str:
    height = round(found.steps / most * _HEIGHT)
    left, right = round(place * width) + _GAP // 2, round((place + 1) * width) - _GAP // 2
    named = f"{found.low:.6g} to {found.high:.6g}: {found.steps}"
    return (
        f'<rect class="bar" x="{left}" y="{_HEIGHT - height}" width="{right - left}" '
        f'height="{height}"><title>{named}</title></rect>'
    )
