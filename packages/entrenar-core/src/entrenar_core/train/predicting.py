"""Logits at chosen positions of a batch: of one model, or of several as one."""

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from entrenar_core import kernels
from entrenar_core.autograd import no_grad
from entrenar_core.autograd.ops.linear_loss import CHUNK


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


class Predicting(Protocol):
    """Something that reads a batch and then has logits."""

    @property
    def dtype(self) -> np.dtype:
        """The type of what was read last."""
        ...

    def read(self, ids: np.ndarray, chosen: np.ndarray) -> None:
        """Read ids (B, T), to predict from the positions `chosen` (n,) of all B·T."""
        ...

    def logits(self, part: slice) -> np.ndarray:
        """The logits (part, V), at most CHUNK of them, which the next call overwrites."""
        ...


def predicting(model: Any) -> Predicting:
    """What predicts as a language model, or as a `Blend` of several, does."""
    return _Blended(model) if isinstance(model, Blend) else _One(model)


class _One:
    def __init__(self, model: Any):
        self.model, self._logits = model, np.empty((0, 0))

    @property
    def dtype(self) -> np.dtype:
        return self._rows.dtype

    def read(self, ids: np.ndarray, chosen: np.ndarray) -> None:
        with no_grad():
            hidden = self.model.hidden(ids).data
        self._rows = hidden.reshape(-1, hidden.shape[-1])[chosen]

    def logits(self, part: slice) -> np.ndarray:
        weight, rows = self.model.output_weight.data, self._rows[part]
        if not len(self._logits):
            self._logits = np.empty((CHUNK, len(weight)), rows.dtype)
        return kernels.matmul(rows, weight, trans_b=True, out=self._logits[: len(rows)])


class _Blended:
    def __init__(self, blend: Blend):
        self._parts, self._weights = [_One(model) for model in blend.models], blend.weights
        shared = min(len(model.output_weight.data) for model in blend.models)
        self._mixture = np.empty((CHUNK, shared), blend.models[0].dtype)

    @property
    def dtype(self) -> np.dtype:
        return self._mixture.dtype

    def read(self, ids: np.ndarray, chosen: np.ndarray) -> None:
        for part in self._parts:
            part.read(ids, chosen)

    def logits(self, part: slice) -> np.ndarray:
        mixture = self._mixture[: part.stop - part.start]
        mixture[...] = -np.inf
        for one, weight in zip(self._parts, self._weights, strict=True):
            kernels.add_to_mixture(mixture, one.logits(part), weight=weight, temperature=1.0)
        return mixture
