"""Strategies of distillation: which parts of the teacher the student learns from."""

from __future__ import annotations

from collections.abc import Sequence

from entrenar_bench.base import ABSENT, Base, value_at, variant
from entrenar_bench.study.records import Arm
from entrenar_common.errors import ConfigError
from entrenar_common.text import escape_controls, nearest

__all__ = ["STRATEGIES", "strategy_arms"]

STRATEGIES: dict[str, tuple[str, ...]] = {
    "kd-only": (),
    "progressive": ("progressive",),
    "attention": ("attention",),
    "combined": ("progressive", "attention"),
}
"""The sections of `distillation` that each strategy has; predictions are learned in all of them."""

_SECTIONS = STRATEGIES["combined"]


def strategy_arms(base: Base, names: Sequence[str]) -> tuple[tuple[Arm, ...], tuple[str, ...]]:
    """An arm for each strategy, and notes on sections that the configuration lacks: these are used
    with their defaults.

    Raises ConfigError for an unknown strategy, for fewer than two or one that is there twice, and
    where a section does not go with the rest of the configuration.
    """
    _check(names)
    full = base.arm("base")
    arms, notes = [], dict[str, None]()
    for name in names:
        wanted = STRATEGIES[name]
        changes = {f"distillation.{s}": ABSENT for s in _SECTIONS if s not in wanted}
        for section in wanted:
            key = f"distillation.{section}"
            if value_at(full, key) is ABSENT:
                changes[key] = {}
                notes[f"the configuration has no {key}: its defaults are used"] = None
        arms.append(variant(full, name, changes))
    return tuple(arms), tuple(notes)


def _check(names: Sequence[str]) -> None:
    for name in names:
        if name not in STRATEGIES:
            guess = nearest(name, STRATEGIES)
            raise ConfigError(
                f"no strategy is called {escape_controls(name)}"
                + (f"; did you mean {guess}?" if guess else ""),
                hint=f"there are {', '.join(STRATEGIES)}",
            )
        if names.count(name) > 1:
            raise ConfigError(f"the strategy {name} is there twice", hint="name each once")
    if len(names) < 2:
        raise ConfigError(
            f"{len(names)} strategy has nothing to be compared with", hint="name at least two"
        )
