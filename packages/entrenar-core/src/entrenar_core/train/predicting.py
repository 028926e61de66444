"""Logits at chosen positions of a batch: of one model, or of several as one."""

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from entrenar_core import kernels
from entrenar_core.autograd import no_grad
from entrenar_core.autograd.ops.linear_loss import CHUNK
from entrenar_core.models.reading import Reading, Rows


@dataclass(frozen=True, eq=False)
class Blend:
    """Models that predict as one: the mean of their probabilities with these weights, over the
    ids that all of them have."""

    models: tuple[Any, ...]
    weights: tuple[float, ...]

    @property
    def config(self) -> Any:
        """That of the model with the fewest positions."""
        return min((model.config for model in self.models), key=lambda c: c.max_position_embeddings)

    def parameter_count(self) -> int:
        """The parameters of all of them together."""
        return sum(model.parameter_count() for model in self.models)


class Labelled(Rows, Protocol):
    """Rows with labels (B, T), as a batch has them."""

    @property
    def labels(self) -> np.ndarray: ...


class Predicting(Protocol):
    """Something that reads a batch and then has logits."""

    @property
    def dtype(self) -> np.dtype:
        """The type of what was read last."""
        ...

    def read(self, rows: Labelled) -> None:
        """Read some rows, to predict at the positions whose labels (B, T) are not negative."""
        ...

    def logits(self, part: slice) -> np.ndarray:
        """The logits (part, V), at most CHUNK of them, which the next call overwrites."""
        ...


def predicting(model: Any, reading: Reading) -> Predicting:
    """What predicts as a model does that is read so, or as a `Blend` of several."""
    return _Blended(model, reading) if isinstance(model, Blend) else _One(model, reading)


class _One:
    def __init__(self, model: Any, reading: Reading):
        self._model, self._reading, self._logits = model, reading, np.empty((0, 0))

    @property
    def dtype(self) -> np.dtype:
        return self._rows.dtype

    def read(self, rows: Labelled) -> None:
        with no_grad():
            states = self._reading.states(self._model, rows)
            made = self._reading.predictions(self._model, states, rows.labels)
        found = made.rows.data
        self._rows = found.reshape(-1, found.shape[-1])[made.targets.reshape(-1) >= 0]
        self._weight = made.weight.data
        self._bias = None if made.bias is None else made.bias.data

    def logits(self, part: slice) -> np.ndarray:
        rows = self._rows[part]
        if not len(self._logits):
            self._logits = np.empty((CHUNK, len(self._weight)), rows.dtype)
        out, biased = self._logits[: len(rows)], self._bias is not None
        if biased:
            out[...] = self._bias
        return kernels.matmul(rows, self._weight, trans_b=True, out=out, add=biased)


class _Blended:
    def __init__(self, blend: Blend, reading: Reading):
        self._parts = [_One(model, reading) for model in blend.models]
        self._weights = blend.weights
        shared = min(len(model.output_weight.data) for model in blend.models)
        self._mixture = np.empty((CHUNK, shared), blend.models[0].dtype)

    @property
    def dtype(self) -> np.dtype:
        return self._mixture.dtype

    def read(self, rows: Labelled) -> None:
        for part in self._parts:
            part.read(rows)

    def logits(self, part: slice) -> np.ndarray:
        mixture = self._mixture[: part.stop - part.start]
        mixture[...] = -np.inf
        for one, weight in zip(self._parts, self._weights, strict=True):
            kernels.add_to_mixture(mixture, one.logits(part), weight=weight, temperature=1.0)
        return mixture
