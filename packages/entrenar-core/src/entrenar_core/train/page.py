"""A page about a training: its log as curves and numbers, in one file by itself (pure).

What is the same in every equal run comes first; below it, apart, is how the run went on this
machine. Equal arguments give equal bytes.
"""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any

from entrenar_core.train.chart import Chart, Point, chart, escaped
from entrenar_core.train.page_parts import Facts, Grid, Paragraph, Part, framed, shown

__all__ = ["Facts", "Grid", "Paragraph", "Part", "page"]

_LOSS, _HELD_OUT = "loss", "held_out_loss"
_FOLLOWS = {_LOSS: "Loss", "learning_rate": "Learning rate", "grad_norm": "Gradient norm"}
_READINGS = {"tokens_per_second": "Tokens per second", "memory_bytes": "Peak memory"}
"""Key of the log → what it is called."""
_MEBIBYTE = 2**20
_KEY = (
    '<p class="keys"><span><span class="key"></span> every step</span>'
    '<span><span class="key mark"></span> held out</span>'
    '<span><span class="key lost"></span> skipped, not finite</span></p>\n'
    '<p class="caption">The loss of a step is what was minimised. The held-out loss is what an '
    "evaluation measures, which need not be the same.</p>"
)

Record = Mapping[str, Any]


def page(
    title: str,
    records: Sequence[Record],
    *,
    results: Sequence[Part] = (),
    settings: Sequence[Part] = (),
    machine: Sequence[Part] = (),
) -> str:
    """The page as HTML.

    `records` are the lines of metrics.jsonl, phase after phase. `results` come before the curves,
    `settings` after them, and `machine`, which may differ from run to run, at the end.
    """
    body = [
        f"<h1>{escaped(title)}</h1>",
        *map(shown, results),
        "<h2>Curves</h2>",
        _KEY,
        _charts(records, _FOLLOWS),
        shown(_numbers(records, _FOLLOWS | {_HELD_OUT: "Held-out loss"})),
        *map(shown, _evaluations(records)),
        *(["<h2>Settings</h2>"] if settings else []),
        *map(shown, settings),
        "<h2>On this machine</h2>",
        "<p>From here on, figures differ from run to run.</p>",
        _charts(records, _READINGS),
        shown(_numbers(records, _READINGS)),
        *map(shown, machine),
    ]
    return framed(title, body)


# ---- the log -----------------------------------------------------------------------------------


def _phases(records: Iterable[Record]) -> list[tuple[str, list[Record]]]:
    return [(name, list(group)) for name, group in groupby(records, key=lambda r: r["phase"])]


def _points(records: Iterable[Record], key: str) -> list[Point]:
    """The steps that have the key, with its value, None where that is not finite."""
    return [(r["step"], _finite(r[key])) for r in records if key in r]


def _finite(value: Any) -> float | None:
    number = isinstance(value, int | float) and math.isfinite(value)
    return float(value) if number else None


def _charts(records: Sequence[Record], quantities: Mapping[str, str]) -> str:
    """One for each quantity and phase; the phases of a quantity are beside each other."""
    phases = _phases(records)
    if not phases:
        return "<p>The log has no steps.</p>"
    if len(phases) == 1:
        ((_, own),) = phases
        return _beside([chart(_chart(name, key, own)) for key, name in quantities.items()])
    return "\n".join(
        _beside([chart(_chart(f"{name}, {phase}", key, own)) for phase, own in phases])
        for key, name in quantities.items()
    )


def _beside(figures: Sequence[str]) -> str:
    return "\n".join(['<div class="charts">', *figures, "</div>"])


def _chart(title: str, key: str, records: Sequence[Record]) -> Chart:
    line = _points(records, key)
    if key == "memory_bytes":
        scaled = [(step, None if value is None else value / _MEBIBYTE) for step, value in line]
        return Chart(title, scaled, unit=" MiB")
    return Chart(title, line, _points(records, _HELD_OUT) if key == _LOSS else ())


def _numbers(records: Sequence[Record], quantities: Mapping[str, str]) -> Grid:
    """What the curves begin, end and lie between, as it is in the log."""
    rows = [
        [phase, name, *_summary(points)]
        for phase, own in _phases(records)
        for key, name in quantities.items()
        if (points := _points(own, key))
    ]
    columns = ["Phase", "", "First", "Last", "Least", "at step", "Greatest", "at step", "Lost"]
    caption = "As the log has them, to six digits. Lost: steps where it was not finite. Memory in "
    return Grid(
        "In numbers",
        columns,
        rows,
        [False, False, *[True] * 7],
        f"{caption}bytes." if "memory_bytes" in quantities else caption.rpartition(" Memory")[0],
    )


def _summary(points: Sequence[Point]) -> list[str]:
    finite = [(value, step) for step, value in points if value is not None]
    lost = str(len(points) - len(finite))
    ends = [_number(points[0][1]), _number(points[-1][1])]
    if not finite:
        return [*ends, "–", "–", "–", "–", lost]
    least = min(finite, key=lambda p: p[0])
    greatest = max(finite, key=lambda p: p[0])
    ranges = [text for value, step in (least, greatest) for text in (_number(value), str(step))]
    return [*ends, *ranges, lost]


def _number(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:.0f}" if value.is_integer() and abs(value) < 1e15 else f"{value:.6g}"


def _evaluations(records: Sequence[Record]) -> list[Grid]:
    """What was measured on what is held out, exactly as the log has it."""
    found = [record for record in records if _HELD_OUT in record]
    if not found:
        return []
    rows = [[r["phase"], str(r["step"]), json.dumps(_finite(r[_HELD_OUT]))] for r in found]
    columns = ["Phase", "Step", "Held-out loss"]
    return [Grid("All evaluations", columns, rows, [False, True, True], folded=True)]
