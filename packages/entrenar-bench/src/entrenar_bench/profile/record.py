"""What a profile says: times by phase, by model, by operation and by module, memory, throughput."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

__all__ = [
    "Bin",
    "Ceilings",
    "Memory",
    "ModuleTime",
    "Moment",
    "OperationTime",
    "Profile",
    "Stack",
    "StepTaken",
    "Time",
    "Watching",
]


@dataclass(frozen=True)
class Ceilings:
    """What this machine reaches at best: operations of a large matrix product in float32, and bytes
    read and written by a copy, in 10⁹ a second."""

    gflops: float
    gigabytes: float


@dataclass(frozen=True)
class Time:
    """A part of the steps that were watched: seconds in all of them, and their share."""

    name: str
    seconds: float
    share: float


@dataclass(frozen=True)
class OperationTime:
    """An operation forward, backward, or again: forward once more on the way back.

    seconds:    of the operation itself, without others that it calls
    gflops:     10⁹ operations of its matrix products a second; None where these are not counted
    gigabytes:  10⁹ bytes a second that it has moved at least; None where these are not counted
    of_ceiling: one of the two as a share of what the machine reaches; None without a ceiling
    """

    op: str
    direction: str
    calls: int
    seconds: float
    share: float
    gflops: float | None
    gigabytes: float | None
    of_ceiling: float | None


@dataclass(frozen=True)
class ModuleTime:
    """The operations of modules whose names differ in numbers alone, such as those of all layers;
    what is inside a module has a line of its own.

    modules: how many there are
    """

    module: str
    modules: int
    calls: int
    forward: float
    backward: float
    share: float


@dataclass(frozen=True)
class Stack:
    """What was inside what, the outermost first, and seconds in which the last was innermost."""

    names: tuple[str, ...]
    seconds: float


@dataclass(frozen=True)
class Moment:
    """What the process held in memory when a span ended.

    milliseconds: since the first step that was watched began
    where:        the span, and of an operation the module
    """

    milliseconds: int
    resident_bytes: int
    step: int
    where: str


@dataclass(frozen=True)
class Memory:
    """Memory over the steps that were watched; `timeline` has the extremes of short stretches."""

    lowest: Moment
    peak: Moment
    timeline: tuple[Moment, ...]


@dataclass(frozen=True)
class StepTaken:
    """A step; its loss is None where it was not finite."""

    step: int
    watched: bool
    seconds: float
    tokens: int
    loss: float | None

    @property
    def tokens_per_second(self) -> float:
        return self.tokens / self.seconds


@dataclass(frozen=True)
class Bin:
    """How many steps had a throughput from `low` to below `high` tokens a second; the last bin has
    its upper end too."""

    low: float
    high: float
    steps: int


@dataclass(frozen=True)
class Watching:
    """What watching costs: medians of the seconds of a step, and of what the watched step of a pair
    took more than the other, as a share of that other."""

    watched: float
    unwatched: float
    cost: float
    spans_per_step: float


@dataclass(frozen=True)
class Profile:
    """Where the steps of a training went.

    seconds:    of all the steps that were watched, of which all times are parts
    phases:     what a step does one after the other
    parties:    the same, by the model that it is done for
    operations: the largest first; together with what is between operations they are the whole
    modules:    the largest first
    """

    subject: str
    steps: int
    seconds: float
    watching: Watching
    phases: tuple[Time, ...]
    parties: tuple[Time, ...]
    operations: tuple[OperationTime, ...]
    modules: tuple[ModuleTime, ...]
    stacks: tuple[Stack, ...]
    memory: Memory | None
    throughput: tuple[Bin, ...]
    taken: tuple[StepTaken, ...]
    ceilings: Ceilings | None
    machine: Any

    def __view__(self) -> Sequence[Any]:
        from entrenar_bench.profile.view import view

        return view(self)
