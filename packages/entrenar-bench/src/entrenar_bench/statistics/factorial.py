"""Main effects and interactions of parts that were taken out in every combination.

The effect of a part is the mean with it minus the mean without it, over every setting of the
others. The interaction of two is half of how much more one of them does where the other is there;
that of three is half of how much that differs with the third, and so on. Each is a contrast of the
arms that every seed has a value of, and is tested over seeds.
Source: Box, Hunter and Hunter, "Statistics for Experimenters" (2005), chapter 5.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from entrenar_bench.statistics.multiplicity import holm
from entrenar_bench.statistics.sample import Floats, State, as_runs, known, state_of
from entrenar_bench.statistics.t_tests import interval
from entrenar_common.errors import ConfigError
from entrenar_common.tables import Table, Text

__all__ = ["FactorialEffect", "FactorialEffects", "contrasts", "factorial_effects"]


@dataclass(frozen=True)
class FactorialEffect:
    """What a part does (or several together, beyond what each does): its mean over seeds with a t
    interval, and p raw and adjusted for all effects; NaN where no test applies, as `state` says.
    values: of each seed."""

    parts: tuple[str, ...]
    values: tuple[float, ...]
    estimate: float
    low: float
    high: float
    p: float
    p_adjusted: float
    state: State

    @property
    def name(self) -> str:
        """The parts with a sign between them.

        >>> FactorialEffect(("a", "b"), (1.0,), 1.0, 0.5, 1.5, 0.01, 0.03, State.TESTED).name
        'a × b'
        """
        return " × ".join(self.parts)


@dataclass(frozen=True)
class FactorialEffects:
    """All effects of a factorial on `metric`, those of single parts first, over `seeds`; p values
    are adjusted by Holm's method."""

    metric: str
    parts: tuple[str, ...]
    seeds: tuple[int, ...]
    alpha: float
    effects: tuple[FactorialEffect, ...]
    notes: tuple[str, ...]

    def __view__(self) -> Iterator[Any]:
        yield Table(
            f"{self.metric}: effects of having parts, {1 - self.alpha:.0%} t intervals, p adjusted "
            f"for {len(self.effects)} (holm)",
            ["effect", "estimate", "low", "high", "p", "adjusted"],
            [
                [e.name, f"{e.estimate:+.3g}", *(known(x, "+.3g") for x in (e.low, e.high)),
                 *(known(x, ".3g") for x in (e.p, e.p_adjusted))]
                for e in self.effects
            ],
            caption="of one part: mean with it − mean without it; ×: half of how much more a "
            "part does where the others are there",
        )  # fmt: skip
        for note in self.notes:
            yield Text(note)


def factorial_effects(
    runs: Mapping[str, Mapping[int, float]],
    taken_out: Mapping[str, Sequence[str]],
    *,
    metric: str = "metric",
    alpha: float = 0.05,
) -> FactorialEffects:
    """Every effect of the parts that each arm lacks, over the seeds of which all arms have a run.

    `runs` has the value of each arm's run by its seed. Raises ConfigError where `taken_out` is not
    every combination of its parts once, and for an alpha that is not between 0 and 1.
    """
    if not 0 < alpha < 1:
        raise ConfigError(
            f"alpha {alpha:g} is not between 0 and 1", hint="0.05 is the usual error rate"
        )
    parts, arms = _design(taken_out)
    values = [runs.get(arm, {}) for arm in arms]
    seeds = sorted(set.intersection(*(set(found) for found in values)))
    lost = sorted(set().union(*values) - set(seeds))
    cells = np.array([[found[seed] for seed in seeds] for found in values], np.float64)
    effects = _tested(parts, cells.reshape(len(arms), len(seeds)), alpha)
    notes = [*_lost(lost), *_average(effects, alpha)]
    return FactorialEffects(metric, parts, tuple(seeds), alpha, effects, tuple(notes))


def contrasts(cells: ArrayLike) -> Floats:
    """The effects in each run, of shape (2^k − 1, n), of cells (2^k, n): the last part changes
    fastest in the cells, from absent to present; effects are in the order of `combinations`."""
    runs = as_runs(cells)
    k = runs.shape[0].bit_length() - 1
    signs = np.array(list(itertools.product((-1.0, 1.0), repeat=k)))
    columns = [signs[:, list(chosen)].prod(1) for chosen in _combinations(range(k))]
    with np.errstate(invalid="ignore"):
        return np.stack(columns) @ runs / 2 ** (k - 1)


def _combinations(parts: Sequence[Any]) -> Iterator[tuple[Any, ...]]:
    """Every choice of at least one, fewest first."""
    for size in range(1, len(parts) + 1):
        yield from itertools.combinations(parts, size)


def _design(taken_out: Mapping[str, Sequence[str]]) -> tuple[tuple[str, ...], list[str]]:
    """The parts, and the arms in the order of cells."""
    parts = tuple(dict.fromkeys(part for lacks in taken_out.values() for part in lacks))
    by_lack = {frozenset(lacks): arm for arm, lacks in taken_out.items()}
    if not parts or not len(taken_out) == len(by_lack) == 2 ** len(parts):
        raise ConfigError(
            f"{len(taken_out)} arms are not every combination of {len(parts)} parts once",
            hint="effects need a whole factorial: an arm for each set of parts that is taken out",
        )
    cells = itertools.product((False, True), repeat=len(parts))
    lacks = [
        frozenset(p for p, there in zip(parts, cell, strict=True) if not there) for cell in cells
    ]
    return parts, [by_lack[each] for each in lacks]


def _tested(parts: Sequence[str], cells: Floats, alpha: float) -> tuple[FactorialEffect, ...]:
    found = contrasts(cells)
    # What cells are rounded by is of the size of the cells, however small their contrast is.
    size = float(np.abs(cells).max()) if cells.size else 0.0
    states = [state_of(each, scale=size) for each in found]
    test = interval(found, confidence=1 - alpha)
    tested = np.array([state is State.TESTED for state in states])
    low, high, p = (np.where(tested, each, math.nan) for each in (test.low, test.high, test.p))
    adjusted = holm(p)
    return tuple(
        FactorialEffect(
            chosen,
            values=tuple(map(float, found[place])),
            estimate=float(test.estimate[place]),
            low=float(low[place]),
            high=float(high[place]),
            p=float(p[place]),
            p_adjusted=float(adjusted[place]),
            state=states[place],
        )
        for place, chosen in enumerate(_combinations(parts))
    )


def _lost(seeds: Sequence[int]) -> Iterator[str]:
    if seeds:
        named = f"seed{'' if len(seeds) == 1 else 's'} {', '.join(map(str, seeds))}"
        yield f"effects: {named} left out, with which not every arm has a run"


def _average(effects: Sequence[FactorialEffect], alpha: float) -> Iterator[str]:
    """A part that depends on another has no one effect."""
    found = [e.name for e in effects if len(e.parts) > 1 and e.p_adjusted <= alpha]
    if found:
        yield (
            f"parts depend on each other ({', '.join(found)}): the effect of one of them alone is "
            "a mean of effects that differ"
        )
