"""Learning rates as pure functions of the step: nothing to save, nothing to advance.

A schedule is called with the number of the step, from 0, and returns that step's rate. Those with
an end keep their last rate after it; `Joined` runs one after the other.

>>> schedule = joined((Warmup(1e-3, 10), 10), Cosine(1e-3, 90))
>>> [schedule(step) for step in (0, 9, 10, 100)]
[0.0001, 0.001, 0.001, 0.0]
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

from entrenar_common.errors import ConfigError

Schedule = Callable[[int], float]


@dataclass(frozen=True)
class Constant:
    """The same rate at every step."""

    rate: float

    def __call__(self, _step: int) -> float:
        return self.rate


@dataclass(frozen=True)
class Warmup:
    """peak · (s+1)/steps: linear, above zero in the first step and at the peak in the last."""

    peak: float
    steps: int

    def __post_init__(self) -> None:
        _at_least_one(self, steps=self.steps)

    def __call__(self, step: int) -> float:
        return self.peak * min(1.0, (step + 1) / self.steps)


@dataclass(frozen=True)
class Linear:
    """From `start` in step 0 to `end` in step `steps`, on a straight line."""

    start: float
    steps: int
    end: float = 0.0

    def __post_init__(self) -> None:
        _at_least_one(self, steps=self.steps)

    def __call__(self, step: int) -> float:
        return _between(self.start, self.end, 1.0 - min(1.0, step / self.steps))


@dataclass(frozen=True)
class Polynomial:
    """end + (start − end)·(1 − s/steps)^power, down to `end` in step `steps`."""

    start: float
    steps: int
    power: float = 1.0
    end: float = 0.0

    def __post_init__(self) -> None:
        _at_least_one(self, steps=self.steps)

    def __call__(self, step: int) -> float:
        left = 1.0 - min(1.0, step / self.steps)
        return _between(self.start, self.end, left**self.power)


@dataclass(frozen=True)
class Cosine:
    """end + (start − end)·(1 + cos(π·s/steps))/2, down to `end` in step `steps`.

    Source: Loshchilov and Hutter 2017, arXiv:1608.03983, without restarts.
    """

    start: float
    steps: int
    end: float = 0.0

    def __post_init__(self) -> None:
        _at_least_one(self, steps=self.steps)

    def __call__(self, step: int) -> float:
        progress = min(1.0, step / self.steps)
        return _between(self.start, self.end, 0.5 * (1.0 + math.cos(math.pi * progress)))


@dataclass(frozen=True)
class SquareRoot:
    """end + (start − end)·(1 − √(s/steps)), down to `end` in step `steps`."""

    start: float
    steps: int
    end: float = 0.0

    def __post_init__(self) -> None:
        _at_least_one(self, steps=self.steps)

    def __call__(self, step: int) -> float:
        left = 1.0 - math.sqrt(min(1.0, step / self.steps))
        return _between(self.start, self.end, left)


@dataclass(frozen=True)
class CosineRestarts:
    """`Cosine` over `period` steps, again and again; each period is `growth` times the last.

    Source: Loshchilov and Hutter 2017, arXiv:1608.03983.
    """

    start: float
    period: int
    growth: int = 1
    end: float = 0.0

    def __post_init__(self) -> None:
        _at_least_one(self, period=self.period, growth=self.growth)

    def __call__(self, step: int) -> float:
        period = self.period
        if self.growth == 1:
            step %= period
        while step >= period:
            step -= period
            period *= self.growth
        return Cosine(self.start, period, self.end)(step)


@dataclass(frozen=True)
class Step:
    """start · factor^⌊s/every⌋."""

    start: float
    every: int
    factor: float = 0.1

    def __post_init__(self) -> None:
        _at_least_one(self, every=self.every)

    def __call__(self, step: int) -> float:
        return self.start * self.factor ** (step // self.every)


@dataclass(frozen=True)
class Exponential:
    """start · factorˢ."""

    start: float
    factor: float

    def __call__(self, step: int) -> float:
        return self.start * self.factor**step


@dataclass(frozen=True)
class Joined:
    """schedules[0] up to step milestones[0], then schedules[1] and so on; each counts its own steps
    from 0."""

    schedules: tuple[Schedule, ...]
    milestones: tuple[int, ...]

    def __post_init__(self) -> None:
        ordered = all(a <= b for a, b in zip((0, *self.milestones), self.milestones, strict=False))
        if len(self.schedules) != len(self.milestones) + 1 or not ordered:
            raise ConfigError(
                f"{len(self.schedules)} schedules with milestones {self.milestones}",
                hint="give one milestone, in ascending order, between any two schedules",
            )

    def __call__(self, step: int) -> float:
        passed = sum(step >= milestone for milestone in self.milestones)
        return self.schedules[passed](step - (0, *self.milestones)[passed])


def joined(*parts: tuple[Schedule, int] | Schedule) -> Joined:
    """Schedules one after the other: pairs of a schedule and its number of steps, then a last
    schedule, which goes on for ever.

    Raises ConfigError where a number of steps is missing, or given for the last.
    """
    *timed, last = parts or ((),)
    milestones: list[int] = []
    schedules: list[Schedule] = []
    for part in timed:
        if not isinstance(part, tuple):
            raise ConfigError(
                f"{part} has no number of steps",
                hint="give (schedule, steps) for every schedule but the last",
            )
        schedules.append(part[0])
        milestones.append((milestones[-1] if milestones else 0) + part[1])
    if isinstance(last, tuple):
        raise ConfigError(
            "the last schedule has no end", hint="end with a schedule, such as Constant(0.0)"
        )
    return Joined((*schedules, last), tuple(milestones))


DECAYS: dict[str, Callable[[float, int, float], Schedule]] = {
    "constant": lambda start, _steps, _end: Constant(start),
    "linear": Linear,
    "cosine": Cosine,
    "sqrt": SquareRoot,
}
"""From start, steps and end to a schedule, by the name it has in a config."""

SCHEDULES = ("constant", "linear", "cosine")
"""The names that `learning_rate` takes."""


def warmup_stable_decay(
    peak: float,
    *,
    warmup: int,
    stable: int,
    decay: int,
    end: float = 0.0,
    shape: str = "linear",
) -> Joined:
    """`Warmup` over `warmup` steps, `peak` for `stable` steps, then down to `end` in `decay` steps:
    by `shape`, one of the keys of `DECAYS`.

    Sources: Hu et al. 2024, arXiv:2404.06395; Hägele et al. 2024, arXiv:2405.18392 (square root).
    """
    if shape not in DECAYS:
        raise ConfigError(f"shape is {shape!r}", hint=f"use one of {', '.join(DECAYS)}")
    start = (Warmup(peak, warmup), warmup) if warmup else (Constant(peak), 0)
    return joined(start, (Constant(peak), stable), DECAYS[shape](peak, decay, end))


def learning_rate(
    step: int, *, peak: float, warmup: int, total: int, schedule: str, floor_ratio: float
) -> float:
    """The rate of `step` (from 0): linear over the first `warmup` steps, reaching `peak` in the
    last of them, then by `schedule` down to peak · floor_ratio at `total`.

    >>> learning_rate(0, peak=1.0, warmup=4, total=10, schedule="cosine", floor_ratio=0.0)
    0.25
    """
    if step < warmup:
        return Warmup(peak, warmup)(step)
    after = DECAYS[schedule](peak, max(1, total - warmup), peak * floor_ratio)
    return after(step - warmup)


def _at_least_one(schedule: object, **counts: int) -> None:
    for name, count in counts.items():
        if count < 1:
            raise ConfigError(
                f"{name} is {count} in {type(schedule).__name__}", hint="use at least 1"
            )


def _between(start: float, end: float, left: float) -> float:
    """end + (start − end)·left, with both ends exact however far apart they are."""
    return start * left + end * (1.0 - left)
