"""The section Statistical analysis: which test, on what assumptions, and all that it gave."""

from __future__ import annotations

import math

from entrenar_bench.report.document import Grid, Items, Paragraph, Part, Section, number, p_value
from entrenar_bench.report.effects import effects_parts
from entrenar_bench.report.facts import StudyFacts
from entrenar_bench.statistics import Comparison, Comparisons, paired_power, welch_power

__all__ = ["analysis", "detectable"]

_ASSUMED = {
    "paired": "The paired t test assumes that the differences between runs of one seed are "
    "independent of each other and roughly normal; the sign-flip test only that either sign of a "
    "difference is as likely where there is no effect.",
    "independent": "Welch's t test assumes that runs are independent and roughly normal, not that "
    "arms vary equally; the Mann-Whitney test only that runs of both arms are exchangeable where "
    "there is no effect.",
}
_CORRECTIONS = {
    "holm": "Holm: with probability α at most a difference is claimed that is not there",
    "bh": "Benjamini and Hochberg: a share of α at most of the differences claimed is expected not "
    "to be there",
}
_WANTED = 0.8


def analysis(facts: StudyFacts) -> Section:
    """All comparisons of all metrics, and the effects of a factorial's parts."""
    parts: list[Part] = []
    for family in facts.comparisons:
        parts += _family(family)
    for found in facts.effects:
        parts += effects_parts(found)
    nothing = Paragraph("There are no comparisons to analyse.", note=True)
    return Section("analysis", "Statistical analysis", parts or [nothing])


def detectable(found: Comparison, *, power: float = _WANTED) -> float:
    """The smallest effect, in standard deviations, that so many runs find with the power; NaN with
    fewer than two. The smaller arm counts, as if both had as many runs."""
    n = min(found.runs)
    if n < 2:
        return math.nan
    power_of = paired_power if found.design == "paired" else welch_power
    low, high = 0.0, 1.0
    while power_of(high, n, alpha=found.alpha) < power:
        low, high = high, 2 * high
    for _ in range(30):
        middle = (low + high) / 2
        enough = power_of(middle, n, alpha=found.alpha) >= power
        low, high = (low, middle) if enough else (middle, high)
    return high


def _family(family: Comparisons) -> list[Part]:
    found = family.comparisons
    if not found:
        return []
    notes = list(dict.fromkeys([*family.notes, *(note for c in found for note in c.notes)]))
    return [
        Paragraph(_described(family)),
        _differences(family),
        _effects(family),
        _power(family),
        *([Items([f"{note}." for note in notes])] if notes else []),
    ]


def _described(family: Comparisons) -> str:
    first = family.comparisons[0]
    several = len(family.comparisons) > 1
    adjusted = f" p values are adjusted ({_CORRECTIONS[family.correction]})." if several else ""
    return (
        f"{family.metric}: {first.test} test, α {first.alpha:g}, two-sided. "
        f"{_ASSUMED[first.design]}{adjusted} Intervals are over {first.varies}; they say nothing "
        "of other data, tasks or models."
    )


def _differences(family: Comparisons) -> Grid:
    rows = [
        [c.arm, c.baseline, *map(number, (*c.means, c.estimate, c.low, c.high)),
         p_value(c.p), p_value(c.p_adjusted), c.verdict.value]
        for c in family.comparisons
    ]  # fmt: skip
    columns = [
        "Arm",
        "Against",
        "Mean",
        "Other mean",
        "Difference",
        "Low",
        "High",
        "p",
        "Adjusted p",
    ]
    confidence = family.comparisons[0].confidence
    caption = f"Difference: arm − against. Low to high: its {confidence:.0%} t interval."
    numeric = [False, False, *[True] * 7, False]
    return Grid(f"{family.metric}: differences", [*columns, "Verdict"], rows, numeric, caption)


def _effects(family: Comparisons) -> Grid:
    rows = [
        [c.arm, c.baseline, effect.name, *map(number, (effect.value, effect.low, effect.high))]
        for c in family.comparisons
        for effect in (*c.effects, c.superiority)
    ]
    columns = ["Arm", "Against", "Effect", "Size", "Low", "High"]
    caption = "Of standardised differences the unit is a standard deviation of what is tested."
    numeric = [False] * 3 + [True] * 3
    return Grid(f"{family.metric}: effect sizes", columns, rows, numeric, caption)


def _power(family: Comparisons) -> Grid:
    rows = [
        [c.arm, c.baseline, *map(str, c.runs), number(c.df), *_exact(c), number(detectable(c)),
         "–" if c.more_seeds is None else str(c.more_seeds), *_equivalence(c)]
        for c in family.comparisons
    ]  # fmt: skip
    columns = ["Arm", "Against", "n", "Other n", "df", "Exact p", "Least exact p", "Detectable"]
    last = ["More seeds", "Margin", "p within"]
    exact = next((c.exact.name for c in family.comparisons if c.exact is not None), None)
    caption = (
        f"Exact p: {exact or 'no exact test was made'}; the least is what so many runs can reach. "
        f"Detectable: the effect that so many runs find with {_WANTED:.0%} power. More seeds: "
        "missing for that power at the observed effect; a dash where they cannot be counted out. "
        "p within: of the difference lying within the margin."
    )
    numeric = [False, False, *[True] * 9]
    return Grid(
        f"{family.metric}: power and exact tests", [*columns, *last], rows, numeric, caption
    )


def _exact(c: Comparison) -> tuple[str, str]:
    return (p_value(c.exact.p), p_value(c.exact.smallest)) if c.exact else ("–", "–")


def _equivalence(c: Comparison) -> tuple[str, str]:
    if c.margin is None:
        return "–", "–"
    return number(c.margin), p_value(c.equivalence_adjusted)
