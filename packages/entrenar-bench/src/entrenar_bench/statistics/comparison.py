"""Two arms compared by their runs: estimate first, then how sure it is, then a verdict."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from entrenar_bench.statistics import effects, exact, power
from entrenar_bench.statistics.effects import Effect
from entrenar_bench.statistics.equivalence import check_margin, equivalence_p
from entrenar_bench.statistics.exact import ExactTest
from entrenar_bench.statistics.sample import Floats, State, as_runs, state_of
from entrenar_bench.statistics.t_tests import TTest, differences, paired_t, welch_t
from entrenar_bench.statistics.verdict import Goal, Verdict, decide, in_words
from entrenar_common.errors import ConfigError
from entrenar_common.tables import Fields, Text

__all__ = ["Comparison", "Design", "compare", "described", "judged", "measured"]

Design = Literal["paired", "independent"]
"""Whether runs of both arms belong together by their seed."""

SEEDS = "runs that differ in their seed (initialisation, order of data, sampling)"


@dataclass(frozen=True)
class Comparison:
    """An arm against a baseline on one metric.

    estimate: arm − baseline, with the interval low to high; p: of the test that is named, raw and
    adjusted for the other comparisons made; exact: the same question without a distribution;
    margin: differences that do not matter, and equivalence_p of the difference being within it;
    more_seeds: missing for 80 % power at the observed effect; varies: what the interval is over.
    """

    metric: str
    arm: str
    baseline: str
    goal: Goal
    design: Design
    runs: tuple[int, int]
    state: State
    means: tuple[float, float]
    estimate: float
    low: float
    high: float
    confidence: float
    test: str
    df: float
    p: float
    p_adjusted: float
    adjusted_for: int
    exact: ExactTest | None
    effects: tuple[Effect, ...]
    superiority: Effect
    margin: float | None
    equivalence_p: float | None
    equivalence_adjusted: float | None
    alpha: float
    verdict: Verdict
    more_seeds: int | None
    varies: str
    notes: tuple[str, ...]

    @property
    def sentence(self) -> str:
        """The verdict in words."""
        return in_words(
            self.verdict,
            self.state,
            names=(self.arm, self.baseline),
            estimate=self.estimate,
            margin=self.margin,
            more=self.more_seeds,
        )

    def __view__(self) -> Iterator[Any]:
        yield Text(self.sentence, _STYLES[self.verdict])
        yield Fields(None, [*self._estimates(), *self._tests()])
        for note in self.notes:
            yield Text(note)

    def _estimates(self) -> list[tuple[str, Any]]:
        interval = f"{self.low:+.4g} to {self.high:+.4g} ({self.confidence:.0%} t interval)"
        shown = [
            ("metric", f"{self.metric} ({self.goal} is better)"),
            ("means", f"{self.means[0]:.6g} against {self.means[1]:.6g}"),
            ("difference", f"{self.estimate:+.4g}"),
            ("interval", interval),
        ]
        for effect in (*self.effects, self.superiority):
            shown.append(
                (effect.name, f"{effect.value:.2f} ({effect.low:.2f} to {effect.high:.2f})")
            )
        return shown

    def _tests(self) -> list[tuple[str, Any]]:
        shown = [(f"p, {self.test}", f"{self.p:.4g}")]
        if self.adjusted_for > 1:
            shown.append((f"p, adjusted for {self.adjusted_for}", f"{self.p_adjusted:.4g}"))
        if self.exact is not None:
            shown.append((f"p, {self.exact.name}", f"{self.exact.p:.4g}"))
        if self.equivalence_adjusted is not None:
            shown.append((f"p, within ±{self.margin:g}", f"{self.equivalence_adjusted:.4g}"))
        n, m = self.runs
        counted = f"{n} pairs" if self.design == "paired" else f"{n} and {m} runs"
        return [*shown, ("over", f"{counted}: {self.varies}")]


_STYLES = {Verdict.BETTER: "good", Verdict.WORSE: "bad"} | dict.fromkeys(
    (Verdict.EQUIVALENT, Verdict.INCONCLUSIVE), ""
)


def compare(
    arm: ArrayLike,
    baseline: ArrayLike,
    *,
    metric: str = "metric",
    goal: Goal = "lower",
    design: Design = "paired",
    names: tuple[str, str] = ("arm", "baseline"),
    alpha: float = 0.05,
    margin: float | None = None,
    varies: str = SEEDS,
) -> Comparison:
    """Compare runs of shapes (n,) and (m,); paired ones are in the order of their seeds.

    The test is the paired t test, or Welch's for independent runs. Raises ConfigError for a margin
    or an alpha that makes no sense, ShapeError for pairs that are not as many.
    """
    return judged(
        measured(
            arm,
            baseline,
            metric=metric,
            goal=goal,
            design=design,
            names=names,
            alpha=alpha,
            margin=margin,
            varies=varies,
        )
    )


def measured(
    arm: ArrayLike,
    baseline: ArrayLike,
    *,
    metric: str,
    goal: Goal,
    design: Design,
    names: tuple[str, str],
    alpha: float,
    margin: float | None,
    varies: str = SEEDS,
) -> Comparison:
    """What `compare` computes before there is a verdict, whose p values can still be adjusted."""
    _check(alpha, margin)
    a, b = as_runs(arm), as_runs(baseline)
    paired = design == "paired"
    confidence = 1 - alpha
    if paired:
        apart = differences(a, b)
        state = state_of(apart, scale=_size(a, b))
        found = paired_t(a, b, confidence=confidence)
        other = exact.sign_flip(apart, alpha=alpha)
        above = effects.wins(a, b, confidence=confidence)
    else:
        state = state_of(a, b)
        found = welch_t(a, b, confidence=confidence)
        other = exact.mann_whitney(a, b, alpha=alpha)
        above = effects.superiority(a, b, confidence=confidence)
    found, sizes = _if_tested(found, state), _sizes(a, b, design, state, confidence)
    equal = None if margin is None else float(equivalence_p(found, margin=margin))
    return Comparison(
        metric=metric,
        arm=names[0],
        baseline=names[1],
        goal=goal,
        design=design,
        runs=(a.size, b.size),
        state=state,
        means=(_mean(a), _mean(b)),
        estimate=float(found.estimate),
        low=float(found.low),
        high=float(found.high),
        confidence=confidence,
        test="paired t" if paired else "Welch t",
        df=float(found.df),
        p=float(found.p),
        p_adjusted=float(found.p),
        adjusted_for=1,
        exact=other,
        effects=sizes,
        superiority=above,
        margin=margin,
        equivalence_p=equal,
        equivalence_adjusted=equal,
        alpha=alpha,
        verdict=Verdict.INCONCLUSIVE,
        more_seeds=None,
        varies=varies,
        notes=(),
    )


def described(found: Comparison) -> Comparison:
    """`found` without any test: of runs whose number was decided by their values, tests and
    intervals do not hold what they promise."""
    none = math.nan
    return dataclasses.replace(
        found,
        state=State.PRUNED,
        low=none,
        high=none,
        df=none,
        p=none,
        p_adjusted=none,
        exact=None,
        effects=(),
        superiority=dataclasses.replace(found.superiority, low=none, high=none),
        equivalence_p=None,
        equivalence_adjusted=None,
    )


def judged(found: Comparison) -> Comparison:
    """`found` with the verdict, the seeds that are missing and the notes that its p values, which
    may have been adjusted, give."""
    verdict = decide(
        found.estimate,
        found.p_adjusted,
        goal=found.goal,
        alpha=found.alpha,
        equivalence_p=found.equivalence_adjusted,
    )
    more = _more_seeds(found) if verdict is Verdict.INCONCLUSIVE else 0
    return dataclasses.replace(
        found, verdict=verdict, more_seeds=more, notes=tuple(_notes(found, verdict))
    )


def _more_seeds(found: Comparison) -> int | None:
    """Seeds that are missing, at the level that the smallest of several p values has to reach."""
    if found.state is State.TOO_FEW:
        return 2 - min(found.runs)
    if found.state is not State.TESTED:
        return None
    fewest = power.paired_seeds if found.design == "paired" else power.welch_seeds
    wanted = fewest(found.effects[0].value, alpha=found.alpha / found.adjusted_for)
    return None if wanted is None else max(1, wanted - min(found.runs))


def _notes(found: Comparison, verdict: Verdict) -> Iterator[str]:
    if found.exact is None or found.state is not State.TESTED:
        return
    if found.exact.note is not None:
        yield found.exact.note
    elif (found.p <= found.alpha) != (found.exact.p <= found.alpha):
        yield (
            f"the {found.test} test (p {found.p:.3g}) and the {found.exact.name} (p "
            f"{found.exact.p:.3g}, at least {found.exact.smallest:.3g}) disagree at {found.alpha:g}"
        )
    if found.p <= found.alpha and verdict is Verdict.INCONCLUSIVE:
        yield (
            f"p {found.p:.3g} alone is below {found.alpha:g}, but not among "
            f"{found.adjusted_for} comparisons"
        )


def _if_tested(found: TTest, state: State) -> TTest:
    """What is left where no test applies: the estimate. The spread may be rounding, but not 0."""
    if state is State.TESTED:
        return found
    return TTest(found.estimate, *[np.asarray(math.nan)] * (len(found) - 1))


def _sizes(
    a: Floats, b: Floats, design: Design, state: State, confidence: float
) -> tuple[Effect, ...]:
    if state is not State.TESTED:
        return ()
    measures = (effects.d_z, effects.d_av) if design == "paired" else (effects.hedges_g,)
    return tuple(measure(a, b, confidence=confidence) for measure in measures)


def _size(a: Floats, b: Floats) -> float:
    together = np.abs(np.concatenate([a, b]))
    return float(together.max()) if together.size else 0.0


def _mean(runs: Floats) -> float:
    return float(runs.mean()) if runs.size else math.nan


def _check(alpha: float, margin: float | None) -> None:
    if not 0 < alpha < 1:
        raise ConfigError(
            f"alpha {alpha:g} is not between 0 and 1", hint="0.05 is the usual error rate"
        )
    if margin is not None:
        check_margin(margin)
