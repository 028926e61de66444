"""Distillations as runs of a study: arms from a configuration file, and what runs one of them."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from entrenar_bench.base import RESERVED, Base
from entrenar_bench.keys import with_full_keys
from entrenar_bench.space import Axis, Point
from entrenar_bench.study.records import Arm, run_id
from entrenar_bench.study.steps import Step
from entrenar_bench.study.worker import Measured
from entrenar_core.train.config import Setting, load_config
from entrenar_distill.config import DistillConfig

__all__ = ["DistillRunner", "arms_of", "keys_of"]


def keys_of(axes: Sequence[Axis]) -> list[Axis]:
    """`axes` with the keys of a distillation's configuration in full.

    Raises ConfigError for an unknown key, with the nearest one.
    """
    return with_full_keys(axes, DistillConfig, reserved=RESERVED)


def arms_of(base: Base, points: Sequence[Point]) -> tuple[Arm, ...]:
    """An arm for each point, laid over the base: whole configurations, defaults included, without
    seed and output folder. An arm is called after its values.

    Raises what `entrenar_distill.config.resolve` raises, before anything is run.
    """
    return tuple(base.arm(_name(point), point) for point in points)


@dataclass(frozen=True)
class DistillRunner:
    """Runs a distillation in a folder of its own below `folder`, and goes on where it was stopped.

    Metrics are the held-out figures of the student by their names, those of other models after
    their own (`teacher.loss`), `seconds` of all phases, and `tokens_per_s` of the student's
    training. Steps are the student's loss while it was trained, each of them.
    """

    folder: str

    def __call__(self, config: Mapping[str, Any], seed: int) -> Measured:
        """Train, measure and report; whatever `entrenar_distill.pipeline.run` raises."""
        return self._run(config, seed)

    def reporting(self, tell: Callable[[Step], None]) -> Callable[..., Measured]:
        """The same, which tells of each step of every training."""
        from entrenar_bench.told import Told

        return lambda config, seed: self._run(config, seed, Told(tell))

    def _run(self, config: Mapping[str, Any], seed: int, *callbacks: Any) -> Measured:
        from entrenar_bench.told import metrics_of
        from entrenar_distill import pipeline
        from entrenar_distill.run_folder import AUTO, RunFolder
        from entrenar_distill.task import STUDENT

        place = os.path.join(self.folder, run_id(config, seed))  # noqa: PTH118
        own = {("training", "seed"): seed, ("output", "dir"): place}
        settings = [Setting((key,), value, "the arm") for key, value in config.items()]
        settings += [Setting(key, value, "the run") for key, value in own.items()]
        resolved, _ = load_config(DistillConfig, None, settings=settings)
        report = pipeline.run(resolved, resume=AUTO, callbacks=callbacks)
        log = RunFolder(Path(place)).metrics.records(STUDENT)
        steps = [(record["step"], metrics_of(record)) for record in log]
        return Measured(_metrics(report, STUDENT), steps)


def _metrics(report: Any, student: str) -> dict[str, float]:
    """The figures of every model of a report about language models or about whole texts."""
    found: dict[str, float] = {"seconds": sum(phase.seconds for phase in report.phases)}
    for phase in report.phases:
        if phase.name == student:
            found["tokens_per_s"] = phase.tokens_per_second
    for score in report.scores:
        prefix = "" if score.name == student else f"{score.name}."
        figures = getattr(score, "figures", None)
        values = vars(score) if figures is None else {n: f and f.value for n, f in figures.items()}
        for name, value in values.items():
            if isinstance(value, int | float):
                found[prefix + name] = float(value)
    return found


def _name(point: Point) -> str:
    return ",".join(f"{key.rpartition('.')[2]}={value}" for key, value in point.items())
