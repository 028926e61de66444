"""What a comparison shows, in a word and in a sentence that claims no more."""

from __future__ import annotations

import enum
from typing import Literal

from entrenar_bench.statistics.sample import State

__all__ = ["Goal", "Verdict", "decide", "in_words"]

Goal = Literal["lower", "higher"]
"""Which values of a metric are better."""


class Verdict(enum.Enum):
    """What runs of an arm show against its baseline."""

    BETTER = "better"
    WORSE = "worse"
    EQUIVALENT = "equivalent"
    INCONCLUSIVE = "inconclusive"


def decide(
    estimate: float, p: float, *, goal: Goal, alpha: float, equivalence_p: float | None = None
) -> Verdict:
    """The verdict on an estimated difference with p values that are adjusted already.

    A difference inside the margin is equivalent even where it is significantly not 0: the margin
    says that it does not matter. NaN is no evidence.
    """
    if equivalence_p is not None and equivalence_p <= alpha:
        return Verdict.EQUIVALENT
    if not p <= alpha:
        return Verdict.INCONCLUSIVE
    return Verdict.BETTER if (estimate > 0) == (goal == "higher") else Verdict.WORSE


def in_words(
    verdict: Verdict,
    state: State,
    *,
    names: tuple[str, str],
    estimate: float,
    margin: float | None,
    more: int | None,
) -> str:
    """The verdict on the first of two named arms against the second; `more` are the seeds missing
    for 80 % power at the observed effect, None where they cannot be said."""
    arm, baseline = names
    if state is not State.TESTED:
        return f"{arm} against {baseline}: {_UNTESTED[state].format(estimate=estimate)}"
    if verdict is Verdict.INCONCLUSIVE:
        needs = "needs more seeds than can be counted out" if more is None else _needs(more)
        return f"{arm} against {baseline}: inconclusive ({needs})"
    if verdict is Verdict.EQUIVALENT:
        return f"{arm} is equivalent to {baseline} within {margin:g}"
    return f"{arm} is {verdict.value} than {baseline} by {abs(estimate):.4g}"


def _needs(more: int) -> str:
    return f"needs {more} more seed{'' if more == 1 else 's'} for 80 % power at the observed effect"


_UNTESTED = {
    State.TOO_FEW: "inconclusive (fewer than 2 runs of an arm, so nothing is known of how runs "
    "vary)",
    State.NOT_FINITE: "inconclusive (a run has no finite value: a run that diverged is a result, "
    "and no mean includes it)",
    State.NO_VARIANCE: "inconclusive (the difference is {estimate:.4g} in every run: nothing "
    "varies, so no test applies; does the seed reach the run?)",
    State.PRUNED: "described and not tested (the difference is {estimate:.4g}; an arm was pruned, "
    "so its values decided how many seeds it has)",
}
