"""The section Results: every arm in numbers, every run as a dot, every loss as a curve."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from entrenar_bench.report.budget import budget
from entrenar_bench.report.document import (
    Curves,
    Dots,
    Grid,
    Line,
    Panel,
    Paragraph,
    Part,
    Section,
    Sweep,
    SweepPoint,
    number,
)
from entrenar_bench.report.facts import Run, StudyFacts
from entrenar_bench.report.summaries import ArmSummary, summaries

__all__ = ["results"]


def results(facts: StudyFacts) -> Section:
    """Means and spreads, runs, sweeps and curves."""
    parts: list[Part] = []
    for metric in facts.metrics:
        parts += _metric(facts, metric, summaries(facts, metric))
    parts += [*_curves(facts), *_failures(facts)]
    return Section("results", "Results", parts or [Paragraph("There are no runs.", note=True)])


def _metric(facts: StudyFacts, metric: str, found: Sequence[ArmSummary]) -> list[Part]:
    counts = ["n", "Failed", "Not finite", "Unfinished"]
    if any(each.pruned for each in found):
        counts.append("Pruned")
    rows = [
        [
            each.arm.name,
            *map(number, (each.mean, each.sd, each.low, each.high)),
            *map(str, (each.n, each.failed, each.not_finite, each.unfinished, each.pruned)),
        ][: 5 + len(counts)]
        for each in found
    ]
    columns = ["Arm", "Mean", "SD", "Low", "High"]
    caption = (
        f"SD: standard deviation between runs (n − 1), not of the mean. Low to high: "
        f"{facts.confidence:.0%} t interval of the mean over runs. Only finite results count in n."
    )
    figure = [Dots(f"{metric}, run by run", [each.row for each in found])]
    return [
        Grid(metric, [*columns, *counts], rows, [False, *[True] * (4 + len(counts))], caption),
        *(figure if any(each.n for each in found) else []),
        *([*_sweeps(facts, metric, found), *budget(facts)] if metric == facts.metric else []),
        _runs(facts, metric),
    ]


def _runs(facts: StudyFacts, metric: str) -> Grid:
    rows = [
        [arm.name, str(run.seed), _result(run, metric)]
        for arm in facts.arms
        for run in facts.runs_of(arm.name)
    ]
    columns = ["Arm", "Seed", metric]
    return Grid(f"{metric} of every run", columns, rows, [False, True, True], folded=True)


def _result(run: Run, metric: str) -> str:
    if run.state != "done":
        return run.state
    if metric not in run.metrics:
        return "–"
    value = run.metrics[metric]
    return number(value) if math.isfinite(value) else "not finite"


def _sweeps(facts: StudyFacts, metric: str, found: Sequence[ArmSummary]) -> list[Part]:
    """The metric against each setting that has several numbers as its values."""
    figures: list[Part] = []
    for name in facts.varied:
        at = [(_number(each.arm.config.get(name)), each) for each in found]
        points = [SweepPoint(x, each.row) for x, each in at if x is not None and each.n]
        if len({point.at for point in points}) > 1:
            points.sort(key=lambda point: point.at)
            figures.append(Sweep(f"{metric} against {name}", name, points))
    return figures


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) else None


def _curves(facts: StudyFacts) -> list[Part]:
    panels = [
        Panel(arm.name, [_line(run) for run in facts.runs_of(arm.name) if run.curve])
        for arm in facts.arms
    ]
    panels = [panel for panel in panels if panel.lines]
    if not panels:
        return [Paragraph("No loss curves were recorded.", note=True)]
    rows = [
        [panel.name, line.name.removeprefix("seed "), *_ends(line.points)]
        for panel in panels
        for line in panel.lines
    ]
    columns = ["Arm", "Seed", "First", "Last", "Least", "At step", "Lost"]
    caption = "Lost: steps where the loss was not finite."
    return [
        Curves("Loss of every run", panels),
        Grid("Loss in numbers", columns, rows, [False, *[True] * 6], caption, folded=True),
    ]


def _line(run: Run) -> Line:
    return Line(f"seed {run.seed}", run.curve, complete=run.state == "done")


def _ends(points: Sequence[tuple[int, float]]) -> Iterable[str]:
    finite = [(value, step) for step, value in points if math.isfinite(value)]
    least, at = min(finite, default=(math.nan, None), key=lambda each: each[0])
    lost = len(points) - len(finite)
    shown = (number(points[0][1]), number(points[-1][1]), number(least))
    return [*shown, "–" if at is None else str(at), str(lost)]


def _failures(facts: StudyFacts) -> list[Part]:
    lost = [run for run in facts.runs if run.state != "done"]
    if not lost:
        return []
    rows = [[run.arm, str(run.seed), run.state, run.failure or "–"] for run in lost]
    return [
        Grid("Runs without a result", ["Arm", "Seed", "", "Why"], rows, [False, True, False, False])
    ]
