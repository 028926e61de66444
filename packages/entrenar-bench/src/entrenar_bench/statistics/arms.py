"""Several arms compared at once: by the seeds they share, with p values adjusted for all."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from entrenar_bench.statistics.comparison import (
    Comparison,
    Design,
    described,
    judged,
    measured,
)
from entrenar_bench.statistics.multiplicity import CORRECTIONS
from entrenar_bench.statistics.sample import State, known
from entrenar_bench.statistics.verdict import Goal
from entrenar_common.errors import NotFoundError
from entrenar_common.tables import Table, Text
from entrenar_common.text import escape_controls, nearest

__all__ = ["Comparisons", "compare_arms"]

Correction = Literal["holm", "bh"]
Runs = Mapping[str, Mapping[int, float]]
"""The value of each arm's run by its seed."""


@dataclass(frozen=True)
class Comparisons:
    """All comparisons that were made, and by what their p values are adjusted."""

    metric: str
    correction: Correction
    comparisons: tuple[Comparison, ...]
    notes: tuple[str, ...]

    def __view__(self) -> Iterator[Any]:
        baselines = {c.baseline for c in self.comparisons}
        one = baselines.pop() if len(baselines) == 1 else None
        yield Table(
            f"{self.metric}: differences{f' from {one}' if one else ''}, 95 % t intervals, p "
            f"adjusted ({self.correction})",
            ["arm", *([] if one else ["against"]), "estimate", "low", "high", "p", "adjusted"],
            [
                [c.arm, *([] if one else [c.baseline]), f"{c.estimate:+.3g}",
                 known(c.low, "+.3g"), known(c.high, "+.3g"),
                 known(c.p, ".3g"), known(c.p_adjusted, ".3g")]
                for c in self.comparisons
            ],
        )  # fmt: skip
        for found in self.comparisons:
            yield Text(found.sentence)
        for note in dict.fromkeys([*self.notes, *(n for c in self.comparisons for n in c.notes)]):
            yield Text(note)


def compare_arms(
    runs: Runs,
    *,
    metric: str = "metric",
    goal: Goal = "lower",
    baseline: str | None = None,
    design: Design = "paired",
    correction: Correction = "holm",
    alpha: float = 0.05,
    margin: float | None = None,
    pruned: Collection[str] = (),
) -> Comparisons:
    """Compare every arm with `baseline`, or every pair of arms where none is given.

    Paired comparisons are over the seeds that both arms have; seeds of one alone are noted. Arms
    that were `pruned` have fewer seeds because of their values: their comparisons are described and
    not tested, and the others are adjusted for them too, as if each had a p of 1. Raises
    NotFoundError for a baseline that is no arm, and what `compare` raises.
    """
    if baseline is not None and baseline not in runs:
        raise NotFoundError(
            f"no arm is called {escape_controls(baseline)!r}",
            hint=f"did you mean {nearest(baseline, runs) or ' or '.join(runs)}?",
        )
    pairs = (
        list(itertools.combinations(runs, 2))
        if baseline is None
        else [(arm, baseline) for arm in runs if arm != baseline]
    )
    notes: list[str] = []
    found = []
    for arm, other in pairs:
        left, right = runs[arm], runs[other]
        early = arm in pruned or other in pruned
        if design == "paired":
            notes += [] if early else _left_out(arm, other, left, right)
            shared = sorted(left.keys() & right.keys())
            values = [left[seed] for seed in shared], [right[seed] for seed in shared]
        else:
            values = list(left.values()), list(right.values())
        one = measured(
            *values,
            metric=metric,
            goal=goal,
            design=design,
            names=(arm, other),
            alpha=alpha,
            margin=margin,
        )
        found.append(described(one) if early else one)
    return Comparisons(metric, correction, tuple(_adjusted(found, correction)), tuple(notes))


def _left_out(
    arm: str, other: str, left: Mapping[int, float], right: Mapping[int, float]
) -> list[str]:
    alone = sorted(left.keys() ^ right.keys())
    if not alone:
        return []
    shown = ", ".join(map(str, alone))
    return [f"{arm} against {other}: only one of them has seed {shown}; it is not compared"]


def _adjusted(found: Sequence[Comparison], correction: Correction) -> Iterator[Comparison]:
    adjust = CORRECTIONS[correction]
    p = adjust([_counted(c, c.p) for c in found])
    tests = sum(c.state in (State.TESTED, State.PRUNED) for c in found)
    equal = adjust([_counted(c, c.equivalence_p) for c in found])
    for one, p_adjusted, equivalence in zip(found, p, equal, strict=True):
        yield judged(
            dataclasses.replace(
                one,
                p_adjusted=math.nan if one.state is State.PRUNED else float(p_adjusted),
                adjusted_for=max(tests, 1),
                equivalence_adjusted=None if one.equivalence_p is None else float(equivalence),
            )
        )


def _counted(one: Comparison, p: float | None) -> float:
    """The p value that a comparison has among the others: 1 where an arm was pruned, since it was a
    candidate like them, and none where no test applies."""
    if one.state is State.PRUNED:
        return 1.0
    return math.nan if p is None else p
