"""What a budget of random points buys, in a report: the expected best of so many of them."""

from __future__ import annotations

import math

from entrenar_bench.report.document import DotRow, Grid, Part, Sweep, SweepPoint, number
from entrenar_bench.report.facts import StudyFacts
from entrenar_bench.report.summaries import summaries
from entrenar_bench.report.summary import counted
from entrenar_bench.statistics import expected_best

__all__ = ["budget"]

_SHOWN = 12  # rows that are not folded
_KEY = "A stroke is the best that is expected."


def budget(facts: StudyFacts) -> list[Part]:
    """The best mean of the deciding metric that 1, 2, … random points are expected to have; nothing
    where fewer than two points were drawn."""
    drawn = [each for each in summaries(facts, facts.metric) if each.arm.name in set(facts.drawn)]
    whole = [each.mean for each in drawn if each.n == len(facts.seeds)]
    if len(whole) < 2:
        return []
    found = [float(best) for best in expected_best(whole, goal=facts.goal)]
    lost = len(drawn) - len(whole)
    caption = (
        f"The mean, over every choice of so many of {len(whole)} points, of the best of their "
        f"means over {len(facts.seeds)} seeds, which is unbiased (Tang et al., 2020). It is of the "
        "data that points are chosen on."
        + (f" {counted(lost, 'point')} without all runs left out, which flatters." if lost else "")
    )
    rows = [[str(count), number(best)] for count, best in enumerate(found, 1)]
    title = f"Expected best {facts.metric} of random points"
    points = [
        SweepPoint(count, DotRow(str(count), (), best, math.nan, math.nan))
        for count, best in enumerate(found, 1)
    ]
    return [
        Grid(
            title, ["Points", "Expected best"], rows, [True, True], caption,
            folded=len(rows) > _SHOWN,
        ),
        Sweep(f"{title}, by their number", "random points", points, key=_KEY),
    ]  # fmt: skip
