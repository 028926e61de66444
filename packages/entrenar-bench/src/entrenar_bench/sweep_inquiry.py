"""What a sweep asks of its arms: all of them at once, in rungs, or one after the other."""

from __future__ import annotations

from collections.abc import Sequence

from entrenar_bench.adaptive import Adaptive
from entrenar_bench.base import Base
from entrenar_bench.conduct import Inquiry
from entrenar_bench.growth import Growth
from entrenar_bench.halving import Halving
from entrenar_bench.runner import arms_of, keys_of
from entrenar_bench.space import check_names, parse_axis
from entrenar_bench.statistics import Goal
from entrenar_bench.study import Plan, Search
from entrenar_bench.sweeping import BASE, POINTS, Sampler, check_trials, sweep_arms
from entrenar_bench.tpe import TpeSampler
from entrenar_common.errors import ConfigError

__all__ = ["adaptive_sweep", "sweep_inquiry"]

_TITLE = "Sweep"


def sweep_inquiry(
    base: Base,
    parameters: Sequence[str],
    *,
    sampler: Sampler,
    trials: int | None,
    halving: int | None,
    seeds: tuple[int, ...],
    metric: str,
    goal: Goal,
    confirm: int,
) -> Inquiry:
    """Which point of `parameters` is best, beside the configuration as it is; `halving` is how many
    times fewer arms go on from rung to rung, None for all with all seeds.

    Raises what `sweep_arms` and `adaptive_sweep` raise, and ConfigError for halving together with a
    sampler that waits for the results of each point.
    """
    growth: Growth | None = None
    search = Search(tuple(parameters), sampler)
    if sampler == "tpe":
        if halving is not None:
            raise ConfigError(
                "halving compares points with each other, and tpe asks for one at a time",
                hint="leave --halving out, or use --sampler random",
            )
        growth = adaptive_sweep(
            base, parameters, trials=trials, seeds=seeds, metric=metric, goal=goal
        )
        baseline, arms = BASE, growth.plan.arms
    else:
        baseline, arms = sweep_arms(base, parameters, sampler=sampler, trials=trials)
        if trials is not None:
            # Those of a race have not all been measured on the same seeds.
            drawn = tuple(arm.name for arm in arms if arm.name != BASE) if halving is None else ()
            search = Search(tuple(parameters), f"{sampler}, {trials} points", drawn=drawn)
        if halving is not None:
            plan = Plan(arms, seeds, name=_TITLE)
            growth = Halving(plan, eta=halving, metric=metric, goal=goal, baseline=baseline)
    return Inquiry(
        _TITLE, arms, seeds, metric, goal, baseline=baseline, confirm=confirm, search=search,
        growth=growth,
    )  # fmt: skip


def adaptive_sweep(
    base: Base,
    parameters: Sequence[str],
    *,
    trials: int | None,
    seeds: tuple[int, ...],
    metric: str,
    goal: Goal,
) -> Adaptive:
    """The configuration as it is, and `trials` points that a TPE sampler asks for.

    Raises ConfigError for parameters that are refused, every value of a list and the ends of a span
    each by itself, and UnsupportedError where the sampler is not installed.
    """
    check_trials("tpe", trials)
    assert trials is not None  # that was checked
    axes = keys_of([parse_axis(text) for text in parameters])
    check_names(axes)
    for axis in axes:
        arms_of(base, [{axis.name: value} for value in axis.ends])
    return Adaptive(
        Plan((base.arm(BASE),), seeds, name=_TITLE),
        TpeSampler(axes, goal=goal, seed=POINTS),
        lambda point: arms_of(base, [point])[0],
        metric=metric,
        trials=trials,
    )
