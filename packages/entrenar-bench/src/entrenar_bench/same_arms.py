"""The whole pipeline tried on trainings made on the spot: arms that are the same, and one that is
not.

Trainings are few, so studies are drawn from a pool of them, again and again. What is drawn is which
runs make up a study: a rate is that of the pool, and its interval is of the drawing alone.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from entrenar_bench.base import Base, variant
from entrenar_bench.check import ALPHA, Check, Wanted, check, table
from entrenar_bench.place import Place, carry_out
from entrenar_bench.report.gathered import is_reading
from entrenar_bench.runs import Runs
from entrenar_bench.statistics import compare_arms
from entrenar_bench.statistics.comparison import Design
from entrenar_bench.statistics.verdict import Verdict
from entrenar_bench.study import Plan
from entrenar_bench.summary import summarise
from entrenar_bench.toy import CONFIG, SECOND, make_toy, shuffled_texts
from entrenar_bench.watching.plain import Plain
from entrenar_common.progress import NullProgress, Progress
from entrenar_common.tables import Fields
from entrenar_core.rng import stream

__all__ = ["Pool", "SameArms", "draw_studies", "plan_of", "try_same_arms"]

METRIC = "loss"
TWIN, WEAKER = "copy 1 again", "copy 1, three quarters of the steps"

_COPIES, _SEEDS, _STUDY, _DRAWN, _JOBS = 3, 10, 5, 500, 2
_POWER = 0.8

Pool = Mapping[str, Mapping[int, float]]
"""A metric of each arm's runs by seed."""

_Arms = tuple[Mapping[int, float], Mapping[int, float]]


@dataclass(frozen=True)
class SameArms:
    """What verdicts on trainings were.

    trainings: how many were made, of so many seeds; equal: of the twin, how many of its runs have
    every metric, but for the machine's, bit for bit; twin, weaker: what the study says of these
    arms against the first copy; checks: on studies that were drawn from the trainings.
    """

    trainings: int
    seeds: int
    equal: int
    twin: str
    weaker: str
    found: bool
    checks: tuple[Check, ...]

    @property
    def passed(self) -> bool:
        """Whether equal runs are equal, the weaker arm was found, and every check has passed."""
        return self.equal == self.seeds and self.found and all(c.passed for c in self.checks)

    def __view__(self) -> Iterator[Any]:
        yield table(
            f"Verdicts on {self.trainings} trainings made here",
            self.checks,
            caption=f"{self.checks[0].studies} studies each, drawn from the trainings: the "
            "interval is of the drawing, not of other trainings",
        )
        yield Fields(
            "The study of all trainings",
            [
                ("runs of equal arms, equal bit for bit", f"{self.equal} of {self.seeds}"),
                ("of the arm that is equal", self.twin),
                ("of the weaker arm", self.weaker),
            ],
        )


def try_same_arms(*, seed: int = 0, progress: Progress | None = None) -> SameArms:
    """Train a toy's students in a temporary folder, in a study as the commands make them, and
    compare arms of which the truth is known.

    Raises SweepError where a training fails, and what `carry_out` raises.
    """
    progress = progress or NullProgress()
    with tempfile.TemporaryDirectory(prefix="entrenar-") as folder:
        place = Place(Path(folder, "a.study"), _JOBS)
        watch = Plain(METRIC, "lower", progress=progress)
        runs = carry_out(plan_of(Path(folder), seed), place, watch=watch)
    runs.check_whole()
    copies = [arm.name for arm in runs.plan.arms if arm.name not in (TWIN, WEAKER)]
    summary = summarise(runs, title="", metric=METRIC, goal="lower", baseline=copies[0]).comparisons
    assert summary is not None  # all runs are there
    said = {found.arm: found for found in summary.comparisons}
    return SameArms(
        trainings=len(runs.trials),
        seeds=len(runs.plan.seeds),
        equal=_equal(runs, copies[0], TWIN),
        twin=said[TWIN].sentence,
        weaker=said[WEAKER].sentence,
        found=said[WEAKER].verdict is Verdict.WORSE,
        checks=draw_studies(runs.values(METRIC), copies, seed=seed, progress=progress),
    )


def plan_of(folder: Path, seed: int) -> Plan:
    """A plan with the same arm in several copies, whose texts have files named in other orders, and
    with the first of them once more, its teacher in another folder, and with fewer steps."""
    make_toy(folder, seed=seed)
    texts = shuffled_texts(folder, copies=_COPIES, seed=seed)
    base = Base(folder / CONFIG).arm("base")
    copies = tuple(
        variant(base, f"copy {number}", {"dataset.name": [str(text)]})
        for number, text in enumerate(texts, 1)
    )
    twin = variant(copies[0], TWIN, {"teacher.model_id": str(folder / SECOND)})
    steps = copies[0].config["training"]["max_steps"]
    weaker = variant(copies[0], WEAKER, {"training.max_steps": steps * 3 // 4})
    return Plan((*copies, twin, weaker), tuple(range(_SEEDS)), name="same arms")


def draw_studies(
    pool: Pool, copies: Sequence[str], *, seed: int = 0, progress: Progress | None = None
) -> tuple[Check, ...]:
    """Shares of drawn studies with a verdict on two arms, which is a false one of runs of `copies`
    of the same arm; the right one of runs of WEAKER against the first copy."""
    progress = progress or NullProgress()
    progress.start("drawn studies", len(_KINDS) * _DRAWN)
    checks = []
    for index, kind in enumerate(_KINDS):
        decided = 0
        for number in range(_DRAWN):
            one, other = kind.draw(pool, copies, stream(seed, "same arms", index, number))
            arms = {"one": one, "other": other}
            (found,) = compare_arms(arms, design=kind.design, alpha=ALPHA).comparisons
            decided += found.verdict in kind.counted
            progress.advance()
        checks.append(check(kind.what, decided, _DRAWN, expected=kind.expected, wanted=kind.wanted))
    progress.finish()
    return tuple(checks)


def _paired(pool: Pool, copies: Sequence[str], generator: np.random.Generator) -> _Arms:
    """Some seeds, each with the runs of two copies: which of them is whose is drawn for each."""
    seeds = generator.choice(_SEEDS, _STUDY, replace=False)
    pairs = {
        int(seed): [copies[int(i)] for i in generator.permutation(len(copies))] for seed in seeds
    }
    one = {seed: pool[drawn[0]][seed] for seed, drawn in pairs.items()}
    return one, {seed: pool[drawn[1]][seed] for seed, drawn in pairs.items()}


def _independent(pool: Pool, copies: Sequence[str], generator: np.random.Generator) -> _Arms:
    """Twice as many seeds with one run each, of any copy; half of them are an arm's."""
    seeds = generator.choice(_SEEDS, 2 * _STUDY, replace=False)
    runs = [(int(seed), copies[int(generator.integers(len(copies)))]) for seed in seeds]
    one, other = ({s: pool[copy][s] for s, copy in half} for half in (runs[::2], runs[1::2]))
    return one, other


def _weaker(pool: Pool, copies: Sequence[str], generator: np.random.Generator) -> _Arms:
    """Some seeds, each with the runs of both arms."""
    seeds = [int(seed) for seed in generator.choice(_SEEDS, _STUDY, replace=False)]
    return {s: pool[WEAKER][s] for s in seeds}, {s: pool[copies[0]][s] for s in seeds}


@dataclass(frozen=True)
class _Kind:
    """How a study is drawn and compared, and how often it may or must end with which verdicts."""

    what: str
    draw: Callable[[Pool, Sequence[str], np.random.Generator], _Arms]
    design: Design
    counted: frozenset[Verdict]
    expected: float
    wanted: Wanted


_WRONG, _RIGHT = frozenset({Verdict.BETTER, Verdict.WORSE}), frozenset({Verdict.WORSE})
_KINDS = (
    _Kind(f"the same arm, {_STUDY} pairs", _paired, "paired", _WRONG, ALPHA, "at most"),
    _Kind(f"the same arm, {_STUDY} + {_STUDY} runs", _independent, "independent", _WRONG, ALPHA,
          "at most"),
    _Kind(f"three quarters of the steps, {_STUDY} pairs", _weaker, "paired", _RIGHT, _POWER,
          "at least"),
)  # fmt: skip


def _equal(runs: Runs, one: str, other: str) -> int:
    """How many seeds have runs of both arms that are equal in every metric but the machine's."""
    found: dict[tuple[str, int], dict[str, str]] = {}
    for trial in runs.trials:
        measured = runs.measured.get(trial.run, {})
        kept = {n: value.hex() for n, value in measured.items() if not is_reading(n)}
        found[trial.arm, trial.seed] = kept
    return sum(found[one, seed] == found[other, seed] != {} for seed in runs.plan.seeds)
