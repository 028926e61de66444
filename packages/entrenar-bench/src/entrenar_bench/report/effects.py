"""What each part of a factorial does, in a report: found in its runs, and shown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from entrenar_bench.report.document import (
    DotRow,
    Dots,
    Grid,
    Items,
    Paragraph,
    Part,
    number,
    p_value,
)
from entrenar_bench.statistics import FactorialEffects, factorial_effects
from entrenar_bench.study import Search

__all__ = ["Results", "effects_of", "effects_parts"]

Results = Mapping[str, Mapping[tuple[str, int], float]]
"""Of each metric the value of arm and seed."""

_MEANING = (
    "The effect of a part is the mean with it minus the mean without it, over every setting of the "
    "other parts; that of two (×) is half of how much more one does where the other is there, and "
    "so on. Each has a value of every seed. The t test of these, two-sided, assumes that they are "
    "independent of each other and roughly normal."
)


def effects_of(
    searches: Sequence[Search], metrics: Iterable[str], results: Results, *, alpha: float
) -> list[FactorialEffects]:
    """Those of each metric, where studies are one factorial: with other seeds, or a single one.

    Raises what `factorial_effects` raises.
    """
    designs = [search.taken_out for search in searches]
    if not designs or not designs[0] or any(design != designs[0] for design in designs):
        return []
    found = []
    for metric in metrics:
        runs: dict[str, dict[int, float]] = {}
        for (arm, seed), value in results[metric].items():
            runs.setdefault(arm, {})[seed] = value
        found.append(factorial_effects(runs, designs[0], metric=metric, alpha=alpha))
    return found


def effects_parts(found: FactorialEffects) -> list[Part]:
    """A table of all effects on a metric, and of each seed a dot for each."""
    rows = [
        [e.name, *map(number, (e.estimate, e.low, e.high)), p_value(e.p), p_value(e.p_adjusted)]
        for e in found.effects
    ]
    confidence = 1 - found.alpha
    caption = (
        f"Over {len(found.seeds)} seeds. Low to high: {confidence:.0%} t interval. Adjusted for "
        f"{len(found.effects)} effects by Holm's method."
    )
    columns = ["Effect", "Estimate", "Low", "High", "p", "Adjusted p"]
    parts: list[Part] = [
        Paragraph(_MEANING),
        Grid(f"{found.metric}: effects of parts", columns, rows, [False, *[True] * 5], caption),
    ]
    if found.seeds:
        dots = [
            DotRow(e.name, list(zip(found.seeds, e.values, strict=True)), e.estimate, e.low, e.high)
            for e in found.effects
        ]
        parts.append(Dots(f"{found.metric}: effects, seed by seed", dots))
    return [*parts, *([Items([f"{note}." for note in found.notes])] if found.notes else [])]
