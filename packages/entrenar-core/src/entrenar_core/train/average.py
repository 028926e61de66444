"""An average of the weights over the steps of a training, which is often better than the last."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import numpy as np

from entrenar_core.autograd import Parameter

__all__ = ["WeightAverage"]


class WeightAverage:
    """The exponential moving average of `parameters`: m ← d·m + (1 − d)·w after every step, with
    d = min(decay, (1 + n)/(10 + n)) in the n-th, so that the beginning is soon forgotten.

    Source: Polyak and Juditsky 1992 for averaging; the course of d is TensorFlow's
    ExponentialMovingAverage.
    """

    def __init__(self, parameters: Mapping[str, Parameter], decay: float):
        self.decay, self.updates = decay, 0
        self._parameters = dict(parameters)
        self._means = {name: p.data.copy() for name, p in parameters.items()}

    def update(self) -> None:
        """Take in the weights as they are after a step."""
        self.updates += 1
        share = 1.0 - min(self.decay, (1 + self.updates) / (10 + self.updates))
        for name, mean in self._means.items():
            mean += share * (self._parameters[name].data - mean)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Inside, the parameters are the averages; the same bits as before come back."""
        self._exchange()
        try:
            yield
        finally:
            self._exchange()

    def finish(self) -> None:
        """Give the parameters the averages, for good."""
        for name, mean in self._means.items():
            self._parameters[name].data[...] = mean

    def state(self) -> dict[str, np.ndarray]:
        """The averages by the names of their parameters, as views."""
        return self._means

    def restore(self, tensors: Mapping[str, np.ndarray], updates: int) -> None:
        """Go on from averages that `state` gave after so many updates."""
        for name, mean in self._means.items():
            mean[...] = tensors[name]
        self.updates = updates

    def _exchange(self) -> None:
        for name, mean in self._means.items():
            data = self._parameters[name].data
            kept = data.copy()
            data[...] = mean
            mean[...] = kept
