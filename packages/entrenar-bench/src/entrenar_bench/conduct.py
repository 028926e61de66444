"""From arms to a summary: runs them, compares them, and confirms the best with fresh seeds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from entrenar_bench.growth import Growth
from entrenar_bench.place import Place, carry_out
from entrenar_bench.runs import Runs
from entrenar_bench.statistics import Goal, compare_arms
from entrenar_bench.statistics.equivalence import check_margin
from entrenar_bench.study import Arm, Plan, Search, Watch
from entrenar_bench.summary import Summary, summarise
from entrenar_bench.sweeping import fresh_seeds
from entrenar_common.errors import ConfigError, NotFoundError

__all__ = ["Inquiry", "conduct"]


@dataclass(frozen=True)
class Inquiry:
    """What is asked of arms: which is best on `metric` over `seeds`, each against `baseline` or,
    where there is none, against each other. `confirm` fresh seeds are for the best, 0 for none;
    `search` says how the arms came about; where `growth` decides on runs, `arms` are those at the
    beginning."""

    title: str
    arms: tuple[Arm, ...]
    seeds: tuple[int, ...]
    metric: str = "loss"
    goal: Goal = "lower"
    baseline: str | None = None
    margin: float | None = None
    confirm: int = 0
    notes: tuple[str, ...] = ()
    search: Search = field(default_factory=Search)
    growth: Growth | None = None

    @property
    def plan(self) -> Plan:
        """Of its study. Raises ConfigError where there is nothing to compare."""
        if self.growth is not None:
            grown = self.growth.plan
            return replace(grown, space={**self._space(self.search), **grown.space})
        if len(self.arms) < 2:
            raise ConfigError(
                f"{len(self.arms)} arm has nothing to be compared with", hint="give more values"
            )
        return Plan(self.arms, self.seeds, name=self.title, space=self._space(self.search))

    def confirming(self, arms: tuple[Arm, ...], seeds: tuple[int, ...], *, of: int) -> Plan:
        """Of the study of the best `of` so many arms and the baseline on fresh seeds."""
        chosen = f"the best of {of} and the baseline, on fresh seeds"
        search = replace(self.search, sampler=chosen, drawn=(), taken_out={})
        return Plan(arms, seeds, name="fresh seeds", space=self._space(search))

    def _space(self, search: Search) -> dict[str, Any]:
        return replace(search, metric=self.metric, goal=self.goal).as_plain()


def conduct(
    inquiry: Inquiry, place: Place, *, csv: Path | None = None, watch: Watch | None = None
) -> tuple[Summary, Sequence[Runs]]:
    """Run what is not run yet, and sum it up, with the runs themselves: of the inquiry, and of its
    confirmation. `csv` gets a row for each run of the inquiry, and `watch` is told of both studies.

    Raises what `carry_out` and `summarise` raise, and NotFoundError before anything is run for a
    file in a folder that is not there.
    """
    plan = inquiry.plan
    if inquiry.margin is not None:
        check_margin(inquiry.margin)
    fresh = fresh_seeds(inquiry.seeds, inquiry.confirm) if inquiry.confirm else ()
    if csv is not None and not csv.parent.is_dir():
        raise NotFoundError(f"{csv.parent}: no such folder", hint="create it, or write elsewhere")
    growth = inquiry.growth
    runs = carry_out(plan, place, growth=growth, watch=watch)
    if csv is not None:
        runs.write_csv(csv)
    summary = summarise(
        runs,
        title=inquiry.title,
        metric=inquiry.metric,
        goal=inquiry.goal,
        baseline=inquiry.baseline,
        margin=inquiry.margin,
        notes=inquiry.notes + (growth.notes if growth else ()),
        taken_out=inquiry.search.taken_out,
    )
    pair = _to_confirm(runs.plan.arms, summary) if fresh else ()
    if not pair:
        return summary, (runs,)
    # Another best than before is another study in the same file: what is the same stays.
    beside = place.beside("confirm", allow_change=True)
    again = carry_out(inquiry.confirming(pair, fresh, of=len(runs.plan.arms)), beside, watch=watch)
    return _confirmed(inquiry, summary, again), (runs, again)


def _to_confirm(arms: Sequence[Arm], summary: Summary) -> tuple[Arm, ...]:
    """The best and the baseline; none where they are the same, or nothing is the best."""
    if summary.best is None or summary.best == summary.baseline:
        return ()
    wanted = (summary.best, summary.baseline)
    return tuple(arm for arm in arms if arm.name in wanted)


def _confirmed(inquiry: Inquiry, summary: Summary, runs: Runs) -> Summary:
    values = {arm: found for arm, found in runs.values(inquiry.metric).items() if found}
    if len(values) < 2:
        return summary
    found = compare_arms(
        values,
        metric=inquiry.metric,
        goal=inquiry.goal,
        baseline=inquiry.baseline,
        margin=inquiry.margin,
    )
    shown = ", ".join(map(str, runs.plan.seeds))
    return summary.confirmed(found.comparisons[0], f"fresh seeds: {shown}")
