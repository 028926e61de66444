"""What a training does at rising learning rates: where its loss falls fastest, where it diverges.

Source: Smith 2017, arXiv:1506.01186 §3.3, with rates that rise exponentially.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from entrenar_common.errors import ConfigError
from entrenar_core.train.loop import TrainingLoop
from entrenar_core.train.step import Steps

__all__ = ["RateCurve", "find_learning_rate", "smoothed"]

_DIVERGED = 4.0
"""A smoothed loss of so many times the lowest one is the end."""


@dataclass(frozen=True)
class RateCurve:
    """The losses of steps at rising learning rates, (N,) each: `losses[k]` was measured before the
    step of `rates[k]`, `smooth[k]` is their moving average.

    ended: why no more steps were taken, in words; diverged: whether that was the loss.
    """

    rates: np.ndarray
    losses: np.ndarray
    smooth: np.ndarray
    diverged: bool
    ended: str

    @property
    def diverges_at(self) -> float | None:
        """The first rate whose step only led upwards: that of the lowest smoothed loss; None where
        the loss did not diverge. It comes late by what the average reaches back."""
        return float(self.rates[self._lowest]) if self.diverged else None

    @property
    def suggestion(self) -> float | None:
        """The rate where the smoothed loss falls fastest over the logarithm of the rate, on the way
        to its lowest value; None where `why_none` says why."""
        if self.why_none:
            return None
        slopes = np.gradient(self.smooth, np.log(self.rates))
        return float(self.rates[int(np.argmin(slopes[: self._lowest + 1]))])

    @property
    def why_none(self) -> str:
        """Why there is no suggestion, in words; empty where there is one."""
        if len(self.rates) < 3:
            return f"only {len(self.rates)} steps were taken: start with a lower rate"
        if not self._lowest:
            return (
                f"the loss never fell below that of the first step, {self.smooth[0]:g}: start with "
                "a lower rate, or look at the model and the data"
            )
        return ""

    @property
    def _lowest(self) -> int:
        return int(np.argmin(self.smooth))


def find_learning_rate(
    loop: TrainingLoop,
    *,
    lowest: float = 1e-7,
    highest: float = 1.0,
    steps: int = 100,
    smoothing: float = 0.9,
) -> RateCurve:
    """Take up to `steps` of the next steps of `loop`, at rates from `lowest` to `highest` in equal
    ratios, and take them back: weights, moments and counters are then the same bits as before.

    It ends early where the smoothed loss is 4 times the lowest one so far, for a lowest one above
    0, or where loss or gradients are not finite. `smoothing` is the weight of the past in the
    moving average, 0 for none. Nothing is logged or saved, and callbacks are not told. Gradients
    are clipped as the loop's configuration says; its schedule of rates plays no part.

    Raises ConfigError for rates that do not rise, less than 3 steps and a smoothing outside [0, 1).
    """
    if not 0 < lowest < highest < math.inf:
        raise ConfigError(
            f"learning rates from {lowest:g} to {highest:g}",
            hint="they rise from above 0, such as 1e-7 to 1",
        )
    if steps < 3:
        raise ConfigError(f"a curve of {steps} steps", hint="use 3 or more, such as 100")
    if not 0 <= smoothing < 1:
        raise ConfigError(f"a smoothing of {smoothing:g}", hint="use 0 or more, and less than 1")
    rates = np.geomspace(lowest, highest, steps)
    with _taken_back(loop):
        losses, diverged, ended = _losses(loop, rates, smoothing)
    found = np.array(losses)
    return RateCurve(rates[: len(found)], found, smoothed(found, smoothing), diverged, ended)


def smoothed(losses: np.ndarray, smoothing: float) -> np.ndarray:
    """The exponential moving average (N,), of which each value is one of the losses up to there
    alone: Σ β^(k−i)·losses[i] / Σ β^(k−i) with β = `smoothing`.

    >>> smoothed(np.array([1.0, 4.0]), 0.5).tolist()
    [1.0, 3.0]
    """
    found, total, weight = np.empty(len(losses)), 0.0, 0.0
    for index, loss in enumerate(losses):
        total, weight = smoothing * total + float(loss), smoothing * weight + 1.0
        found[index] = total / weight
    return found


def _losses(
    loop: TrainingLoop, rates: np.ndarray, smoothing: float
) -> tuple[list[float], bool, str]:
    """The losses that are finite; whether they diverged, and why there are no more."""
    steps = Steps(
        loop.objective, loop.batches, loop.config, loop.optimizer, quantized=loop.quantized
    )
    losses: list[float] = []
    for index, rate in enumerate(rates):
        with np.errstate(over="ignore", invalid="ignore"):  # to diverge is what is looked for
            taken = steps.take(loop.step + index, float(rate))
        if not math.isfinite(taken.loss):
            return losses, True, f"the loss at the rate {rate:g} was {taken.loss}"
        losses.append(taken.loss)
        curve = smoothed(np.array(losses), smoothing)
        if curve.min() > 0 and curve[-1] >= _DIVERGED * curve.min():
            return losses, True, f"the loss at the rate {rate:g} was {_DIVERGED:g} times the lowest"
        if not taken.finite:
            return losses, True, f"the gradients at the rate {rate:g} were not finite"
    return losses, False, f"the highest rate, {rates[-1]:g}, was reached"


@contextmanager
def _taken_back(loop: TrainingLoop) -> Iterator[None]:
    """Whatever steps are taken inside, all that they move is as it was afterwards."""
    kept = {
        stem: {name: array.copy() for name, array in arrays.items()}
        for stem, arrays in loop.state.tensors().items()
    }
    steps = loop.optimizer.steps
    try:
        yield
    finally:
        for stem, trained in loop.state.weights.items():
            for name, parameter in trained.items():
                parameter.data[...] = kept[stem][name]
        if loop.quantized is not None:
            loop.quantized.restore(kept["quantization"])
        loop.optimizer.restore(kept["optimizer"], steps)
        loop.optimizer.zero_grad()
        loop.objective.parts()  # of these no log is kept
