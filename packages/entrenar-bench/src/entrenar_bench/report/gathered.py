"""The facts of a report out of the files of studies."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from entrenar_bench.report.effects import Results, effects_of
from entrenar_bench.report.facts import Arm, Parameter, Run, RunState, StudyFacts
from entrenar_bench.report.methodology import setting
from entrenar_bench.statistics import Comparisons, Goal, compare_arms
from entrenar_bench.statistics.arms import Correction
from entrenar_bench.statistics.comparison import Design
from entrenar_bench.study import Status, Study, Trial
from entrenar_common.errors import ConfigError, NotFoundError
from entrenar_common.text import escape_controls, nearest

__all__ = ["Asked", "gathered", "is_reading"]

_READING = re.compile(r"(^|[_.])(seconds|bytes|joules|watts|per_second|per_s)$")
_MACHINE = ("cpu", "gpu", "memory", "threads")
_STATES: dict[Status, RunState] = {
    Status.FINISHED: "done",
    Status.FAILED: "failed",
    Status.PRUNED: "pruned",
}
_PRUNED = "its arm was not among the best on the seeds before"
_ORDER = "blocks of one seed, in each of which every arm runs once, shuffled"


@dataclass(frozen=True)
class Asked:
    """What a report is asked for.

    metrics: each with which values are better, the deciding one first; baseline: the arm that the
    others are compared with, None for all pairs; the rest as `compare_arms` has it.
    """

    metrics: Mapping[str, Goal]
    baseline: str | None = None
    design: Design = "paired"
    correction: Correction = "holm"
    alpha: float = 0.05
    margin: float | None = None
    title: str = ""
    question: str = ""
    commands: Sequence[str] = field(default_factory=tuple)


def is_reading(metric: str) -> bool:
    """Whether a metric by this name is one of the machine, different in equal runs: its last words
    are seconds, bytes, joules, watts, per second or per s.

    >>> is_reading("tokens_per_s"), is_reading("held_out_loss")
    (True, False)
    """
    return _READING.search(metric) is not None


def gathered(studies: Sequence[Study], asked: Asked) -> StudyFacts:
    """The facts of studies that belong together: of other arms, or of other seeds.

    Raises ConfigError for runs that two of them have and for arms that differ under one name,
    NotFoundError for a metric that no finished run has or a baseline that is no arm.
    """
    known = sorted({name for study in studies for name in study.metrics()})
    for metric in asked.metrics:
        if metric not in known:
            raise NotFoundError(
                f"no finished run has the metric {escape_controls(metric)!r}",
                hint=f"did you mean {nearest(metric, known) or ', '.join(known) or 'none'}?",
            )
    trials = [(study, trial) for study in studies for trial in study.trials()]
    kept = [(study, trial) for study, trial in trials if trial.status is not Status.DROPPED]
    _check(kept)
    deciding = next(iter(asked.metrics))
    results = {name: _results(studies, name) for name in known}
    runs = [run for study in studies for run in _runs(study, deciding, results)]
    hardware, versions = _machines(studies)
    searches = [study.search for study in studies]
    revisions = sorted({study.provenance.revision or "" for study in studies})
    return StudyFacts(
        title=asked.title or ", ".join(dict.fromkeys(study.name for study in studies)),
        question=asked.question,
        metric=deciding,
        goal=asked.metrics[deciding],
        arms=_arms([trial for _, trial in kept]),
        runs=runs,
        seeds=sorted({trial.seed for _, trial in kept}),
        comparisons=_comparisons(kept, asked, results),
        effects=effects_of(searches, asked.metrics, results, alpha=asked.alpha),
        paired=asked.design == "paired",
        axes=_distinct(axis for search in searches for axis in search.axes),
        method="; ".join(_distinct(search.sampler for search in searches)),
        space=_space([trial for _, trial in kept]),
        drawn=_distinct(arm for search in searches for arm in search.drawn),
        criterion="; ".join(_distinct(search.criterion for search in searches)),
        order="; ".join(_distinct(search.order or _ORDER for search in searches)),
        hardware=hardware,
        versions=versions,
        revision=", ".join(r.removesuffix("+changes") for r in revisions if r) or None,
        modified=any(r.endswith("+changes") for r in revisions),
        energy=_energy(studies, runs),
        notes=_notes(studies, dropped=len(trials) - len(kept)) + _pruning(_pruned(kept)),
        made_by=_distinct(search.command for search in searches),
        commands=asked.commands,
        confidence=1 - asked.alpha,
    )


def _pruned(trials: Sequence[tuple[Study, Trial]]) -> list[str]:
    return list(dict.fromkeys(t.arm for _, t in trials if t.status is Status.PRUNED))


def _pruning(arms: Sequence[str]) -> list[str]:
    if not arms:
        return []
    return [
        f"{len(arms)} arms were pruned and have fewer seeds because of their values. They are not "
        "complete and no candidates for the best; their comparisons are described and not tested, "
        "and the p values of the others are adjusted for them too."
    ]


def _check(trials: Sequence[tuple[Study, Trial]]) -> None:
    """Runs are counted once, and a name is one configuration."""
    configs: dict[str, Trial] = {}
    seen: dict[tuple[str, int], Study] = {}
    for study, trial in trials:
        name = escape_controls(trial.arm)
        if configs.setdefault(trial.arm, trial).id != trial.id:
            raise ConfigError(
                f"{study.path}: the arm {name} has another configuration than the same name before",
                hint="report these studies each by itself",
            )
        before = seen.setdefault((trial.arm, trial.seed), study)
        if before is not study:
            raise ConfigError(
                f"{before.path} and {study.path} both have the arm {name} with seed {trial.seed}",
                hint="give other seeds to the second study, or report each by itself",
            )


def _arms(trials: Sequence[Trial]) -> list[Arm]:
    """By their names, in which numbers count as numbers: arm-2 is before arm-10."""
    configs = {trial.arm: trial.config for trial in trials}
    return [Arm(name, _flat(configs[name])) for name in sorted(configs, key=_natural)]


def _natural(name: str) -> tuple[list[tuple[int, str]], str]:
    parts = re.findall(r"[0-9]+|[^0-9]+", name)
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts], name


def _flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in config.items():
        nested = isinstance(value, Mapping) and value
        found |= _flat(value, f"{prefix}{name}.") if nested else {f"{prefix}{name}": value}
    return found


def _results(studies: Sequence[Study], metric: str) -> dict[tuple[str, int], float]:
    return {
        (arm, seed): value
        for study in studies
        if metric in study.metrics()
        for arm, values in study.results(metric).items()
        for seed, value in values.items()
    }


def _runs(study: Study, deciding: str, results: Results) -> list[Run]:
    attempts = study.attempts()
    places = {a.run: place for place, a in enumerate(attempts, 1)}
    took = {a.run: a.ended - a.started for a in attempts if a.ended is not None}
    found = []
    for trial in study.trials():
        if trial.status is Status.DROPPED:
            continue
        key = (trial.arm, trial.seed)
        have = {name: values[key] for name, values in results.items() if key in values}
        clock = {"seconds": took[trial.run]} if trial.run in took else {}
        found.append(
            Run(
                trial.arm,
                trial.seed,
                _STATES.get(trial.status, "unfinished"),
                metrics={n: v for n, v in have.items() if n == deciding or not is_reading(n)},
                curve=_curve(study, trial.run, deciding),
                failure=trial.error or (_PRUNED if trial.status is Status.PRUNED else ""),
                place=places.get(trial.run),
                readings=clock | {n: v for n, v in have.items() if n != deciding and is_reading(n)},
            )
        )
    return found


def _curve(study: Study, run: str, deciding: str) -> list[tuple[int, float]]:
    """The loss of each step; the deciding metric where no step has a loss."""
    steps = study.steps(run)
    names = {name for _, name, _ in steps}
    wanted = "loss" if "loss" in names else deciding
    return [(step, value) for step, name, value in steps if name == wanted]


def _comparisons(
    trials: Sequence[tuple[Study, Trial]], asked: Asked, results: Results
) -> list[Comparisons]:
    names = [arm.name for arm in _arms([trial for _, trial in trials])]
    families = []
    for metric, goal in asked.metrics.items():
        runs: dict[str, dict[int, float]] = {name: {} for name in names}
        for (arm, seed), value in results[metric].items():
            if arm in runs:
                runs[arm][seed] = value
        families.append(
            compare_arms(
                runs,
                metric=metric,
                goal=goal,
                baseline=asked.baseline,
                design=asked.design,
                correction=asked.correction,
                alpha=asked.alpha,
                margin=asked.margin,
                pruned=_pruned(trials),
            )
        )
    return families


def _space(trials: Sequence[Trial]) -> list[Parameter]:
    """The values that the arms have of each setting in which they differ."""
    arms = _arms(trials)
    found = []
    for name in StudyFacts("", "", "lower", arms, [], []).varied:
        values = dict.fromkeys(setting(a.config[name]) for a in arms if name in a.config)
        found.append(Parameter(name, ", ".join(values)))
    return found


def _distinct(texts: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(text for text in texts if text))


def _energy(studies: Sequence[Study], runs: Sequence[Run]) -> str:
    said = "; ".join(_distinct(text for study in studies for text in study.energy))
    counted = sum("joules" in run.readings for run in runs)
    if not counted:
        return f"not recorded: {said}" if said else ""
    return f"of {counted} of {len(runs)} runs: {said or 'joules, as the runs reported them'}"


def _machines(studies: Sequence[Study]) -> tuple[dict[str, str], dict[str, str]]:
    """Hardware and versions; what differs between the studies is there with each value."""
    found: dict[str, dict[str, None]] = {}
    for study in studies:
        known = {"entrenar-bench": study.provenance.version, **study.provenance.machine}
        for name, value in known.items():
            found.setdefault(name, {})[str(value)] = None
    texts = {name: "; ".join(values) for name, values in found.items()}
    hardware = {name: text for name, text in texts.items() if name in _MACHINE}
    return hardware, {name: text for name, text in texts.items() if name not in hardware}


def _notes(studies: Sequence[Study], *, dropped: int) -> list[str]:
    retried = Counter(a.run for study in studies for a in study.attempts())
    again = sum(count > 1 for count in retried.values())
    found = []
    if dropped:
        found.append(f"{dropped} runs were planned once and dropped when the plan was edited.")
    if again:
        found.append(f"{again} runs were begun more than once; the last attempt counts.")
    return found
