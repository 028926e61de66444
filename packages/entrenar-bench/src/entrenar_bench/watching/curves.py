"""The loss curves of a study's arms, each the mean over its seeds, as text."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from entrenar_bench.study import Study
from entrenar_bench.watching.state import StudyState, better
from entrenar_common.panels import panels
from entrenar_common.plot import Glyphs, Points
from entrenar_common.text import escape_controls

__all__ = ["curve_lines", "mean_curve"]

_LOSS = "loss"
_MOST = 12
"""So many arms are drawn: the best ones, where there are more."""
_PANEL = 30  # columns of one, at least


def curve_lines(study: Study, state: StudyState, width: int, *, glyphs: Glyphs) -> list[str]:
    """What is drawn for the finished runs of `study`; nothing where none has steps."""
    arms = list(state.arms)
    if len(arms) > _MOST:
        arms = better(arms, state.goal)[:_MOST]
    found = {}
    for arm in arms:
        runs = [_steps(study, run) for run in arm.runs]
        points = mean_curve([points for points in runs if points])
        if points:
            found[f"{escape_controls(arm.name)} ({len(runs)} seeds)"] = points
    if not found:
        return []
    title = f"{escape_controls(state.name)}: {_LOSS} by step, mean over seeds"
    if len(state.arms) > _MOST:
        title += f", the {_MOST} best of {len(state.arms)} arms"
    return [title, *panels(found, width, least=_PANEL, glyphs=glyphs), ""]


def mean_curve(runs: Sequence[Points]) -> list[tuple[float, float]]:
    """The mean of several curves at each step that all of them have.

    >>> mean_curve([[(1, 4.0), (2, 2.0)], [(1, 6.0), (2, 3.0), (3, 1.0)]])
    [(1, 5.0), (2, 2.5)]
    """
    if not runs:
        return []
    first, *others = (dict(points) for points in runs)
    return [
        (step, statistics.fmean([value, *(each[step] for each in others)]))
        for step, value in first.items()
        if all(step in each for each in others)
    ]


def _steps(study: Study, run: str) -> list[tuple[float, float]]:
    return [(step, value) for step, name, value in study.steps(run) if name == _LOSS]
