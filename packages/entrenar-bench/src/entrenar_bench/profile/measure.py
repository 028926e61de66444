"""Steps of a training, watched and not watched in turns, as a profile."""

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np

from entrenar_bench.profile.breakdown import breakdown
from entrenar_bench.profile.frames import frames_of
from entrenar_bench.profile.memory import memory
from entrenar_bench.profile.record import Bin, Ceilings, Profile, StepTaken, Watching
from entrenar_common.errors import ConfigError
from entrenar_common.progress import NullProgress, Progress
from entrenar_core.environment import environment
from entrenar_core.nn import Module, watching_modules
from entrenar_core.optim import learning_rate
from entrenar_core.train.loop import TrainingLoop
from entrenar_core.train.step import Steps
from entrenar_core.train.trace import Recorder, Span
from entrenar_distill.config import DistillConfig
from entrenar_distill.task import STUDENT, task_of

__all__ = ["Profiled", "profile", "profile_loop", "throughput"]

WARM_UP = 2
"""Steps before the first that counts: caches fill, and memory is taken that later steps reuse."""


@dataclass(frozen=True)
class Profiled:
    """A profile, and the spans that it is of, in the order in which they ended."""

    profile: Profile
    spans: tuple[Span, ...]


def profile(
    config: DistillConfig,
    *,
    steps: int = 10,
    ceilings: Ceilings | None = None,
    progress: Progress | None = None,
) -> Profiled:
    """Take steps of the distillation that `config` describes, and write nothing but its token
    cache: `steps` that are watched, and as many that are not.

    Raises what reading a run's inputs raises, and ConfigError for less than one step.
    """
    task = task_of(config)
    inputs = task.read_inputs(config, progress=progress or NullProgress())
    student = inputs.new_student()
    loop = TrainingLoop(
        student, task.objective(inputs, STUDENT, student), inputs.batches, config.training,
        phase=STUDENT, metrics=None, store=None, checkpoint_every=max(1, steps),
    )  # fmt: skip
    teachers = {
        name: model
        for name, model in task.named_teachers(inputs).items()
        if isinstance(model, Module)
    }
    subject = f"a distillation of the task {config.task}, steps of its student"
    return profile_loop(
        loop, {STUDENT: student, **teachers}, subject=subject, steps=steps,
        ceilings=ceilings, progress=progress,
    )  # fmt: skip


def profile_loop(
    loop: TrainingLoop,
    models: Mapping[str, Module],
    *,
    subject: str,
    steps: int = 10,
    ceilings: Ceilings | None = None,
    progress: Progress | None = None,
) -> Profiled:
    """Take the next steps of `loop` in pairs of which one is watched, with the modules of `models`
    by their names. Which of a pair comes first changes from pair to pair. Nothing is logged,
    evaluated or saved, and the loop's own callbacks are not told.

    Raises ConfigError for less than one step.
    """
    if steps < 1:
        raise ConfigError(f"a profile of {steps} steps", hint="use 1 or more, such as 10")
    progress = progress or NullProgress()
    progress.start("profile", 2 * steps)
    spans: list[Span] = []
    taking = _Taking(loop, models, Recorder([spans.append], operations=True))
    for _ in range(WARM_UP):
        taking.take(watched=False)
    taken: list[StepTaken] = []
    for pair in range(steps):
        for watched in (pair % 2 == 0, pair % 2 == 1):
            taken.append(taking.take(watched=watched))
            progress.advance(1)
    progress.finish()
    frames = frames_of(spans)
    found = breakdown(frames, models=list(models), ceilings=ceilings)
    made = Profile(
        subject=subject,
        steps=steps,
        seconds=found.seconds,
        watching=_watching(taken, len(spans)),
        phases=found.phases,
        parties=found.parties,
        operations=found.operations,
        modules=found.modules,
        stacks=found.stacks,
        memory=memory(frames),
        throughput=throughput([t.tokens_per_second for t in taken if not t.watched]),
        taken=tuple(taken),
        ceilings=ceilings,
        machine=environment(),
    )
    return Profiled(made, tuple(spans))


class _Taking:
    """Takes the next steps of a loop, each told to a recorder or to nobody."""

    def __init__(self, loop: TrainingLoop, models: Mapping[str, Module], recorder: Recorder):
        self._loop, self._models, self._recorder = loop, models, recorder
        self._number = loop.step
        self._told, self._plain = self._steps(recorder), self._steps(Recorder())

    def _steps(self, recorder: Recorder) -> Steps:
        loop = self._loop
        return Steps(
            loop.objective, loop.batches, loop.config, loop.optimizer,
            quantized=loop.quantized, recorder=recorder,
        )  # fmt: skip

    def take(self, *, watched: bool) -> StepTaken:
        number, rate = self._number, self._rate()
        self._number += 1
        with self._watching(watched):
            steps = self._told if watched else self._plain
            started = time.perf_counter()
            with steps.recorder.span("step", step=number + 1):
                taken = steps.take(number, rate)
            seconds = time.perf_counter() - started
        self._loop.objective.parts()  # of these no log is kept
        loss = taken.loss if math.isfinite(taken.loss) else None
        return StepTaken(number + 1, watched, seconds, taken.tokens, loss)

    @contextmanager
    def _watching(self, watched: bool) -> Iterator[None]:
        if not watched:
            yield
            return
        with watching_modules(self._models), self._recorder.watching():
            yield

    def _rate(self) -> float:
        config = self._loop.config
        return learning_rate(
            min(self._number, self._loop.total_steps - 1),
            peak=config.learning_rate,
            warmup=config.warmup_steps,
            total=self._loop.total_steps,
            schedule=config.schedule,
            floor_ratio=config.min_learning_rate_ratio,
        )


def _watching(taken: Sequence[StepTaken], spans: int) -> Watching:
    """Of steps in pairs."""
    pairs = [
        (a.seconds, b.seconds) if a.watched else (b.seconds, a.seconds)
        for a, b in zip(taken[::2], taken[1::2], strict=True)
    ]
    return Watching(
        watched=median(watched for watched, _ in pairs),
        unwatched=median(unwatched for _, unwatched in pairs),
        cost=median(watched / unwatched - 1 for watched, unwatched in pairs),
        spans_per_step=spans / len(pairs),
    )


def throughput(rates: Sequence[float]) -> tuple[Bin, ...]:
    """A histogram with as many bins as Sturges' rule says: ⌈log₂ n⌉ + 1."""
    array: Any = np.asarray(rates)
    counts, edges = np.histogram(array, bins=math.ceil(math.log2(len(rates))) + 1)
    return tuple(
        Bin(float(low), float(high), int(count))
        for low, high, count in zip(edges[:-1], edges[1:], counts, strict=True)
    )
