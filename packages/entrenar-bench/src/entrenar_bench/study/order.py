"""The order of runs: blocks of one seed, in each of which every arm runs once, shuffled.

A machine that becomes slower or warmer in the meantime does so for all arms alike, and a study that
is stopped early has whole blocks, so its runs are paired by seed.
"""

from __future__ import annotations

from collections.abc import Iterator

from entrenar_bench.study.records import Arm, Plan
from entrenar_core.rng import stream

__all__ = ["ordered"]


def ordered(plan: Plan) -> Iterator[tuple[Arm, int]]:
    """The arm and seed of every run, first to last: a function of the plan alone.

    >>> plan = Plan(arms=(Arm("a", {"x": 1}), Arm("b", {"x": 2})), seeds=(7, 8))
    >>> [seed for _, seed in ordered(plan)]
    [7, 7, 8, 8]
    """
    for seed in plan.seeds:
        shuffled = stream(plan.order_seed, "study.order", seed).permutation(len(plan.arms))
        for index in shuffled:
            yield plan.arms[int(index)], seed
