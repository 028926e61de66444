"""Sweeps whose next point is chosen by the results of those before it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Protocol

from entrenar_bench.growth import Tell, untold
from entrenar_bench.runs import Runs
from entrenar_bench.space import Point
from entrenar_bench.study import Arm, Asked, Plan, Study
from entrenar_bench.study.records import trial_id
from entrenar_common.errors import ConfigError

__all__ = ["Adaptive", "Sampler"]


_CHOSEN = (
    "Points were chosen by results on the seeds that they are compared on, which flatters them: "
    "what is found on fresh seeds counts."
)


class Sampler(Protocol):
    """Asks for one point after another: a function of what it was told, in that order."""

    @property
    def rule(self) -> Mapping[str, Any]:
        """All that decides which points come, in plain values."""
        ...

    @property
    def described(self) -> str:
        """How points are chosen, in words, with the version of what does."""
        ...

    def ask(self) -> Point:
        """The next point."""
        ...

    def tell(self, value: float | None) -> None:
        """What the last point is worth; None where it failed."""
        ...


class Adaptive:
    """Asks a sampler for `trials` points, one by one, each of which becomes an arm with all seeds.

    The sampler is told the mean of `metric` over an arm's seeds when all its runs have ended, and
    that it failed where one has or is not finite. A point that was asked for before, or is an arm
    of the plan, is not run again and counts as a trial; so does one that makes no configuration,
    which has failed. `notes` say how many there were of both.

    In a study that has points already the sampler is asked for them again, and is told what it was
    told then, so it goes on as if it had never been stopped: a run that was mended since changes no
    point.
    """

    def __init__(
        self,
        plan: Plan,
        sampler: Sampler,
        arm_of: Callable[[Point], Arm],
        *,
        metric: str,
        trials: int,
    ) -> None:
        rule = {**sampler.rule, "metric": metric}
        order = "point by point as they were asked for, each with all its seeds"
        space = {**plan.space, "sampler": sampler.described, "order": order}
        self.plan = replace(plan, rule=rule, space=space)
        self._sampler, self._arm_of, self._metric, self._trials = sampler, arm_of, metric, trials
        self._asked = Asked()
        self._open: str | None = None  # the arm of the last point, until the sampler was told
        self._repeated, self._impossible = 0, list[str]()

    @property
    def notes(self) -> tuple[str, ...]:
        """That points were chosen by results, and what became of those that are no arm."""
        found = [_CHOSEN]
        if self._repeated:
            found.append(f"{self._repeated} points were asked for again, and not run again.")
        if self._impossible:
            first = self._impossible[0]
            found.append(f"{len(self._impossible)} points make no configuration: {first}")
        return tuple(found)

    def more(self, study: Study, *, tell: Tell = untold) -> bool:
        """Tell what the last arm is worth and ask for the next one; False after the last.

        Raises ConfigError for a metric that no run has, and RefusedError for a study whose points
        were others, unless it was opened to be edited.
        """
        while True:
            place = len(self._asked.told)
            told = study.asked.told[place : place + 1]
            if not told:
                runs = Runs.of(study, self.plan)
                if not runs.ended:  # of another driver, which has given them back
                    return True
                runs.check_metric(self._metric)
                told = (self._worth(runs),)
            if len(self._asked.points) > place:
                self._sampler.tell(told[0])
                self._asked = replace(self._asked, told=(*self._asked.told, told[0]))
            if len(self._asked.points) == self._trials:
                study.extend(self.plan, self._asked)
                return not Runs.of(study, self.plan).ended
            self._ask(study, tell)

    def _ask(self, study: Study, tell: Tell) -> None:
        point = self._sampler.ask()
        self._asked = replace(self._asked, points=(*self._asked.points, trial_id(point)))
        number, self._open = len(self._asked.points), None
        try:
            arm = self._arm_of(point)
        except ConfigError as error:  # keys that do not go together: each by itself was checked
            self._impossible.append(error.message)
            said = f"point {number} of {self._trials} makes no configuration: {error}"
        else:
            self._open = self._adopted(arm)
            said = f"point {number} of {self._trials}: {self._open}"
        if number > len(study.asked.points):
            tell(said)
        study.extend(self.plan, self._asked)

    def _adopted(self, arm: Arm) -> str:
        """The name of `arm` in the plan, to which it is added if no other is the same."""
        name = trial_id(arm.config)
        for known in self.plan.arms:
            if trial_id(known.config) == name:
                self._repeated += 1
                return known.name
        self.plan = replace(self.plan, arms=(*self.plan.arms, arm))
        return arm.name

    def _worth(self, runs: Runs) -> float | None:
        means = runs.means(self._metric, self.plan.seeds)
        return None if self._open is None else means.get(self._open)
