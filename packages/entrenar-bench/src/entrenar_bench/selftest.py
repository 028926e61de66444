"""The statistics tried on simulated studies, of which the truth is known."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from entrenar_bench.check import ALPHA, Check, Wanted, check, table
from entrenar_bench.same_arms import SameArms
from entrenar_bench.statistics.arms import Comparisons, compare_arms
from entrenar_bench.statistics.power import paired_power, welch_power
from entrenar_bench.statistics.verdict import Verdict
from entrenar_common.errors import ConfigError
from entrenar_common.progress import NullProgress, Progress
from entrenar_core.rng import stream

__all__ = ["Kind", "SelfTest", "self_test"]

_NOISE, _COMMON = 1.0, 2.0
"""Standard deviations of a run: its own, and what its seed does to every arm alike."""


@dataclass(frozen=True)
class SelfTest:
    """All checks of a self-test: on simulated studies, and on real ones where these were asked
    for."""

    seed: int
    checks: tuple[Check, ...]
    pipeline: SameArms | None = None

    @property
    def passed(self) -> bool:
        """Whether every check has."""
        simulated = all(check.passed for check in self.checks)
        return simulated and (self.pipeline is None or self.pipeline.passed)

    def __view__(self) -> Iterator[Any]:
        yield table(
            "Verdicts on simulated studies",
            self.checks,
            caption=f"{self.checks[0].studies} studies each, seed {self.seed}; nothing is trained",
        )
        if self.pipeline is not None:
            yield self.pipeline


def self_test(
    studies: int,
    *,
    seed: int = 0,
    progress: Progress | None = None,
    real: Callable[[], SameArms] | None = None,
) -> SelfTest:
    """Simulate so many studies of each kind and compare their arms as `compare_arms` does; then do
    the `real` ones, if any.

    A verdict of better or worse where there is no effect is a false one: 5 % at most. Where there
    is one, the share of verdicts is the power. Raises ConfigError for fewer than 50 studies.
    """
    if studies < 50:
        raise ConfigError(f"{studies} simulated studies", hint="use at least 50")
    progress = progress or NullProgress()
    kinds = list(_kinds())
    progress.start("kinds of studies", len(kinds))
    checks = []
    for index, kind in enumerate(kinds):
        decided = sum(
            kind.decides(stream(seed, "selftest", index, study)) for study in range(studies)
        )
        checks.append(
            check(kind.what, decided, studies, expected=kind.expected, wanted=kind.wanted)
        )
        progress.advance()
    progress.finish()
    return SelfTest(seed, tuple(checks), real and real())


@dataclass(frozen=True)
class Kind:
    """Studies of `arms` arms with n runs each, the first of which is lower by `effect`."""

    what: str
    design: str
    arms: int
    n: int
    effect: float
    expected: float
    wanted: Wanted = "equal"

    def decides(self, generator: np.random.Generator) -> bool:
        """Whether a simulated study ends with a difference between any two arms."""
        common = _COMMON * generator.standard_normal(self.n) if self.design == "paired" else 0.0
        values = common + _NOISE * generator.standard_normal((self.arms, self.n))
        values[0] -= self.effect
        runs = {f"arm {i}": dict(enumerate(map(float, row))) for i, row in enumerate(values)}
        found = _COMPARE[self.design](runs)
        return any(c.verdict in (Verdict.BETTER, Verdict.WORSE) for c in found.comparisons)


_COMPARE: dict[str, Callable[[Any], Comparisons]] = {
    "paired": lambda runs: compare_arms(runs, design="paired", alpha=ALPHA),
    "independent": lambda runs: compare_arms(runs, design="independent", alpha=ALPHA),
}


def _kinds() -> Iterator[Kind]:
    for n in (3, 5, 10):
        yield Kind(f"no effect, {n} pairs", "paired", 2, n, 0.0, ALPHA)
        rate = welch_power(0.0, n)
        yield Kind(f"no effect, {n} + {n} runs", "independent", 2, n, 0.0, rate)
    yield Kind("no effect, 6 arms, 5 seeds, any of 15", "paired", 6, 5, 0.0, ALPHA, "at most")
    for n in (5, 10):
        d_z = 2.0 / np.sqrt(2 * _NOISE**2)
        power = paired_power(float(d_z), n)
        yield Kind(f"effect of 2 standard deviations, {n} pairs", "paired", 2, n, 2.0, power)
    power = welch_power(2.0, 5)
    yield Kind("the same, 5 + 5 runs", "independent", 2, 5, 2.0, power)
