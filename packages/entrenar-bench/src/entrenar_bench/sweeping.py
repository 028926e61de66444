"""Sweeps: the arms that a command's ranges and parameters stand for, and its seeds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from entrenar_bench.base import Base
from entrenar_bench.runner import arms_of, keys_of
from entrenar_bench.space import Axis, grid, parse_axis, parse_seeds, random_points, stepped
from entrenar_bench.study.records import Arm, trial_id
from entrenar_common.errors import ConfigError
from entrenar_common.text import escape_controls

__all__ = [
    "BASE",
    "POINTS",
    "Sampler",
    "check_trials",
    "fresh_seeds",
    "seeds_of",
    "sweep_arms",
    "temperature_arms",
]

Sampler = Literal["grid", "random", "tpe"]
"""Every point, or some that are drawn, or asked for by the results of those before."""

BASE = "base"
"""What the arm is called that is the configuration as it is."""

_FEWEST_SEEDS = 2

POINTS = 0
"""Seed of points: the same command draws the same ones, and more go on from them."""


def temperature_arms(base: Base, span: str, step: str) -> tuple[Arm, ...]:
    """An arm for each temperature of a range such as 1.0..8.0.

    Raises ConfigError for a range of fewer than two, and for a temperature that is none.
    """
    low, dots, high = span.partition("..")
    if not dots:
        raise ConfigError(f"{escape_controls(span)!r} is no range", hint="write it like 1.0..8.0")
    values = stepped(low, high, step)
    if len(values) < 2:
        raise ConfigError(
            f"{span} in steps of {step} is one temperature",
            hint="use a smaller step or a wider range: one has nothing to be compared with",
        )
    return arms_of(base, grid([Axis("distillation.temperature", values)]))


def sweep_arms(
    base: Base, parameters: Sequence[str], *, sampler: Sampler, trials: int | None
) -> tuple[str, tuple[Arm, ...]]:
    """The baseline's name, and the arms: the configuration as it is, unless a point is the same,
    and one for each point of the parameters, of which `trials` are drawn at random.

    Raises ConfigError for parameters that `parse_axis` and `keys_of` refuse, for a sampler without
    its number of trials, and for one with a number that it does not use.
    """
    check_trials(sampler, trials)
    axes = keys_of([parse_axis(text) for text in parameters])
    points = grid(axes) if trials is None else random_points(axes, trials, seed=POINTS)
    arms, as_it_is = arms_of(base, points), base.arm(BASE)
    same = [arm.name for arm in arms if trial_id(arm.config) == trial_id(as_it_is.config)]
    return (same[0], arms) if same else (BASE, (as_it_is, *arms))


def seeds_of(text: str) -> tuple[int, ...]:
    """The seeds of a study: `3` is 0, 1 and 2; `0..4` and `0,1,5` are these.

    Raises ConfigError for fewer than two: no test knows how runs vary.

    >>> seeds_of("3"), seeds_of("4..6")
    ((0, 1, 2), (4, 5, 6))
    """
    seeds = text
    if text.isdecimal():
        seeds = f"0..{max(int(text), 1) - 1}"
    found = parse_seeds(seeds)
    if len(found) < _FEWEST_SEEDS:
        raise ConfigError(
            f"seeds {escape_controls(text)}: too few for a test of a difference",
            hint="use at least 2; 5 or more find a difference that matters more often than not",
        )
    return found


def fresh_seeds(used: Sequence[int], count: int) -> tuple[int, ...]:
    """`count` seeds after all that were used. Raises ConfigError for fewer than two."""
    if count < _FEWEST_SEEDS:
        raise ConfigError(
            f"{count} fresh seeds are too few for a test of a difference",
            hint=f"confirm with at least {_FEWEST_SEEDS}",
        )
    first = max(used) + 1
    return tuple(range(first, first + count))


def check_trials(sampler: Sampler, trials: int | None) -> None:
    """Raise ConfigError for a sampler without the number of points that it needs, or with one."""
    if sampler != "grid" and trials is None:
        raise ConfigError(f"{sampler} points without a number", hint="say how many with --trials")
    if sampler == "grid" and trials is not None:
        raise ConfigError(
            f"a grid has all its points, and {trials} were asked for",
            hint="leave --trials out, or use --sampler random or tpe",
        )
