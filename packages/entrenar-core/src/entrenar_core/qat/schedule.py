"""How the quantization of a model grows during training, as functions of the step."""

import math
from dataclasses import dataclass

from entrenar_common.errors import ConfigError


@dataclass(frozen=True)
class Schedule:
    """From the step `begin`, counted from 0, to `end`, from when on everything is as it will be.

    The base does nothing before `end`. Raises ConfigError for an end before the beginning.
    """

    begin: int = 0
    end: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.begin <= self.end:
            raise ConfigError(
                f"a schedule from step {self.begin} to {self.end}",
                hint="begin is at least 0, and end not before it",
            )

    def done(self, step: int) -> float:
        """How much of the way is done, from 0 at `begin` to 1 at `end`."""
        if step >= self.end:
            return 1.0
        return max(0.0, (step - self.begin) / (self.end - self.begin))

    def bits(self, step: int, bits: int) -> int:
        """The bits at `step` of what will have `bits`."""
        del step
        return bits

    def matrices(self, step: int, count: int) -> int:
        """How many of `count` matrices are quantized at `step`, the first ones of the model."""
        return count if step >= self.end else 0


@dataclass(frozen=True)
class LowerBits(Schedule):
    """From `first` bits down to those of the format, in equal parts of the way.

    >>> [LowerBits(0, 4, first=8).bits(step, 4) for step in range(5)]
    [8, 7, 6, 5, 4]
    """

    first: int = 8

    def bits(self, step: int, bits: int) -> int:
        left = (1 - self.done(step)) * max(0, self.first - bits)
        return bits + math.ceil(left)

    def matrices(self, step: int, count: int) -> int:
        return count if step >= self.begin else 0


@dataclass(frozen=True)
class MoreMatrices(Schedule):
    """From none to all of the matrices, in the model's order.

    >>> [MoreMatrices(1, 3).matrices(step, 8) for step in range(4)]
    [0, 0, 4, 8]
    """

    def matrices(self, step: int, count: int) -> int:
        return math.floor(count * self.done(step))
