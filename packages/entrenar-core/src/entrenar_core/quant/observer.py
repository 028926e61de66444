"""Where the range of some numbers should end, and with it their scale and zero point.

An observer looks at one array. `RunningRange` is for what comes in many arrays, such as the inputs
of a layer.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from entrenar_common.errors import CheckpointError, ConfigError, NumericsError
from entrenar_core import kernels
from entrenar_core.quant.base import as_finite_float32
from entrenar_core.quant.integers import Integer

Ranges = tuple[np.ndarray, np.ndarray]
"""The lower and upper ends (S,) of the ranges of S blocks."""


class Observer(ABC):
    """How the ends of a range follow from numbers. Subclasses are frozen dataclasses."""

    @abstractmethod
    def ranges(self, blocks: np.ndarray, form: Integer) -> Ranges:
        """The ranges of `blocks` (S, L) for integers of `form`."""

    def parameters(self, array: np.ndarray, form: Integer) -> Ranges:
        """Scales and zero points of `array`, one for each block of `form`'s grain."""
        return form.parameters(*self.ranges(form.grain.blocks(array), form))


@dataclass(frozen=True)
class MinMax(Observer):
    """From the smallest to the largest number: nothing is clipped."""

    def ranges(self, blocks: np.ndarray, form: Integer) -> Ranges:
        del form
        return blocks.min(axis=1), blocks.max(axis=1)


@dataclass(frozen=True)
class Percentile(Observer):
    """The range that holds `percent` of the numbers, so that single large ones do not widen it.

    Symmetric: of the magnitudes. Asymmetric: (100 − percent) are left out at each end. Between two
    numbers the percentile is interpolated.
    """

    percent: float = 99.9

    def __post_init__(self) -> None:
        if not 50 < self.percent <= 100:
            raise ConfigError(
                f"a range of {self.percent} percent", hint="use more than 50 and at most 100"
            )

    def ranges(self, blocks: np.ndarray, form: Integer) -> Ranges:
        if form.symmetric:
            high = np.percentile(np.abs(blocks), self.percent, axis=1).astype(blocks.dtype)
            return -high, high
        ends = (100 - self.percent, self.percent)
        low, high = np.percentile(blocks, ends, axis=1).astype(blocks.dtype)
        return low, high


@dataclass(frozen=True)
class LeastError(Observer):
    """The range with the least squared error, among i/`steps` of the full one, i = 1 … steps."""

    steps: int = 100

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ConfigError(f"a search in {self.steps} steps", hint="use 1 or more")

    def ranges(self, blocks: np.ndarray, form: Integer) -> Ranges:
        low, high = MinMax().ranges(blocks, form)
        best_low, best_high = low.copy(), high.copy()
        least = np.full(len(blocks), np.inf)
        for step in range(self.steps, 0, -1):
            part = blocks.dtype.type(step / self.steps)
            scale, zero = form.parameters(low * part, high * part)
            found = kernels.fake_affine(blocks, scale, zero, low=form.low, high=form.high)
            error = np.square(found - blocks).sum(axis=1)
            better = error < least
            least[better] = error[better]
            best_low[better], best_high[better] = (low * part)[better], (high * part)[better]
        return best_low, best_high


OBSERVERS: Mapping[str, Observer] = {
    "minmax": MinMax(), "percentile": Percentile(), "mse": LeastError()
}  # fmt: skip
"""Observers by name, with their default options."""


class RunningRange:
    """The ranges of many arrays of one layout, for integers of `form`.

    Without `momentum` they are as wide as the widest; with it they follow: low ← low + momentum ·
    (new − low), the first array giving the start.
    """

    def __init__(
        self, form: Integer, *, observer: Observer | None = None, momentum: float | None = None
    ):
        if momentum is not None and not 0 < momentum <= 1:
            raise ConfigError(f"a momentum of {momentum}", hint="use more than 0 and at most 1")
        self.form, self.observer, self.momentum = form, observer or MinMax(), momentum
        self.low: np.ndarray | None = None
        self.high: np.ndarray | None = None

    def update(self, array: np.ndarray) -> None:
        """Take the numbers of one more array into account. NumericsError for NaN or infinity."""
        blocks = self.form.grain.blocks(as_finite_float32(array, self.form.name))
        self.merge(*self.observer.ranges(blocks, self.form))

    def merge(self, low: np.ndarray, high: np.ndarray) -> None:
        """Take the ranges of one more array into account."""
        if self.low is None or self.high is None:
            self.low, self.high = low.copy(), high.copy()
        elif self.momentum is None:
            self.low, self.high = np.minimum(self.low, low), np.maximum(self.high, high)
        else:
            share = low.dtype.type(self.momentum)
            self.low = self.low + share * (low - self.low)
            self.high = self.high + share * (high - self.high)

    def parameters(self) -> Ranges:
        """Scales and zero points. NumericsError before the first array."""
        if self.low is None or self.high is None:
            raise NumericsError(
                "no numbers have been observed, so there is no range",
                hint="run the model on some batches first",
            )
        return self.form.parameters(self.low, self.high)

    def state(self) -> dict[str, np.ndarray]:
        """`low` and `high`, nothing before the first array."""
        if self.low is None or self.high is None:
            return {}
        return {"low": self.low, "high": self.high}

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Take over what `state` gave. CheckpointError for other names."""
        if state.keys() not in ({"low", "high"}, set()):
            raise CheckpointError(
                f"a range has low and high, and not {', '.join(sorted(state)) or 'nothing'}",
                hint="resume with the config that the checkpoint was made with",
            )
        self.low, self.high = state.get("low"), state.get("high")
