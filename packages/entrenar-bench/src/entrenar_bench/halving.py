"""Successive halving over seeds: all arms with few of them, the best ones with more.

No training is cut short: every run that is done is whole. Source: Karnin, Koren and Somekh, "Almost
Optimal Exploration in Multi-Armed Bandits" (2013); Jamieson and Talwalkar, "Non-stochastic Best Arm
Identification and Hyperparameter Optimization" (2016).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

from entrenar_bench.growth import Tell, untold
from entrenar_bench.runs import Runs
from entrenar_bench.statistics import Goal
from entrenar_bench.study import Plan, Study
from entrenar_common.errors import ConfigError

__all__ = ["Halving", "rungs", "survivors"]


def rungs(seeds: int, eta: int) -> tuple[int, ...]:
    """How many seeds an arm has had after each rung: 1 at least, `seeds` at last, `eta` times as
    many from one to the next.

    >>> rungs(5, 3), rungs(8, 2)
    ((1, 2, 5), (1, 2, 4, 8))
    """
    found = [seeds]
    while found[0] > 1:
        found.insert(0, math.ceil(found[0] / eta))
    return tuple(found)


def survivors(means: Mapping[str, float], arms: int, *, eta: int, goal: Goal) -> tuple[str, ...]:
    """The best 1/eta of so many arms, rounded up, of those that have a mean; in their order.

    >>> survivors({"a": 0.3, "b": 0.1, "c": 0.2}, 4, eta=2, goal="lower")
    ('b', 'c')
    """
    sign = 1 if goal == "lower" else -1
    best = sorted(means, key=lambda arm: sign * means[arm])[: math.ceil(arms / eta)]
    return tuple(arm for arm in means if arm in best)


class Halving:
    """Gives every arm of a plan the first seeds, and only the best 1/eta after each rung more.

    The baseline gets all seeds: it is what arms are compared with. An arm with a run that failed or
    is not finite is not among the best. What was decided stays, whatever is mended later.
    """

    def __init__(self, plan: Plan, *, eta: int, metric: str, goal: Goal, baseline: str) -> None:
        if eta < 2:
            raise ConfigError(f"halving by {eta}", hint="use at least 2: the best half goes on")
        self._rungs = rungs(len(plan.seeds), eta)
        self._eta, self._metric, self._baseline = eta, metric, baseline
        self._goal: Goal = goal
        rule = {"halving": eta, "metric": metric, "goal": goal, "baseline": baseline}
        method = (
            f"a plan made before the runs, of which the best 1/{eta} went on after "
            f"{_listed(self._rungs[:-1])} seeds"
        )
        space = {**plan.space, "sampler": method}
        self.plan = replace(plan, rule=rule, open_seeds=self._rungs[0], space=space)

    @property
    def notes(self) -> tuple[str, ...]:
        """That early looks at results were taken, and what may be said of them."""
        return (
            f"Successive halving by {self._eta} after {_listed(self._rungs[:-1])} of "
            f"{self._rungs[-1]} seeds: arms that were pruned are described and not tested, and the "
            "p values of the others are adjusted for all arms.",
        )

    def more(self, study: Study, *, tell: Tell = untold) -> bool:
        """Prune all arms but the best of the rung that has ended; False after the last rung.

        Raises ConfigError for a metric that no run has.
        """
        at, runs = study.rung, Runs.of(study, self.plan)
        if at + 1 >= len(self._rungs):
            return not runs.ended  # of another driver, which has given them back
        runs.check_metric(self._metric)
        had, get = self._rungs[at : at + 2]
        means = runs.means(self._metric, self.plan.seeds[:had])
        racing = [a.name for a in self.plan.arms if a.name not in (self._baseline, *runs.pruned)]
        best = survivors(
            {arm: means[arm] for arm in racing if arm in means},
            len(racing),
            eta=self._eta,
            goal=self._goal,
        )
        if study.advance(at, arms=(self._baseline, *best), seeds=self.plan.seeds[had:get]):
            tell(
                f"after {had} of {len(self.plan.seeds)} seeds {len(best)} of {len(racing)} arms go "
                f"on: {', '.join(best) or 'none'}"
            )
        return True


def _listed(counts: tuple[int, ...]) -> str:
    return " and ".join(map(str, counts))
