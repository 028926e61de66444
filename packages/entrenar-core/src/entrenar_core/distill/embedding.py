"""The objective of a distillation of sentence embeddings."""

from collections.abc import Sequence

import numpy as np

from entrenar_common.errors import ConfigError, ShapeError
from entrenar_core.autograd import Parameter, Tensor, ops
from entrenar_core.data.text_batches import TextBatch
from entrenar_core.distill.features.structure import similarity_preserving
from entrenar_core.distill.text_features import TextReading
from entrenar_core.rng import stream

__all__ = ["LOSSES", "EmbeddingDistillation", "new_projection"]

PROJECTION = "embedding.projection"


def _cosine(found: Tensor, expected: np.ndarray) -> Tensor:
    return ops.sum(1.0 - ops.cosine_similarity(found, expected))


def _mse(found: Tensor, expected: np.ndarray) -> Tensor:
    return ops.mse(found, expected, reduction="sum") / expected.shape[1]


LOSSES = {"cosine": _cosine, "mse": _mse}
"""Name → sum over texts of how far embeddings (B, D) are from the teacher's."""


class EmbeddingDistillation:
    """Σ(1 − cos(W s, t)) / texts of the step, s being the student's embeddings and t the teacher's,
    or Σ‖W s − t‖²/D with the loss "mse"; W is a learned `projection` (D, d), without one d is D.

    Source: Reimers and Gurevych 2020, arXiv:2004.09813, whose loss is "mse". With the weight
    `pairwise`, the similarities between texts are learned too: `similarity_preserving` over the
    texts of a micro-batch, times their share of the step. It alone depends on how a step is cut.
    """

    def __init__(
        self,
        reading: TextReading,
        *,
        loss: str = "cosine",
        pairwise: float = 0.0,
        projection: Parameter | None = None,
    ):
        if loss not in LOSSES:
            raise ConfigError(
                f"there is no loss {loss!r} of embeddings", hint=f"take one of {', '.join(LOSSES)}"
            )
        self.reading, self.pairwise, self.projection = reading, pairwise, projection
        self.name, self._distance = loss, LOSSES[loss]
        self._parts: dict[str, float] = {}

    def parameters(self) -> dict[str, Parameter]:
        """The projection, where there is one, and those of the losses of features."""
        own = {} if self.projection is None else {PROJECTION: self.projection}
        return {**own, **self.reading.parameters()}

    def begin(self, step: int, batches: Sequence[TextBatch]) -> None:
        self.reading.begin(step, batches)

    def loss(self, batch: TextBatch, normalizer: int) -> Tensor:
        found, expected, inside = self.reading.read(batch)
        distance = self.distance(found, expected) / normalizer
        self._add(self.name, distance)
        loss = distance if inside is None else distance + inside
        if self.pairwise:
            one = np.ones((1, len(expected)), bool)  # one sequence of all texts
            apart = similarity_preserving(
                ops.unsqueeze(found, 0), Tensor(expected[None]), one, normalizer=1
            ) * (len(expected) / normalizer)
            self._add("pairwise", apart)
            loss = loss + self.pairwise * apart
        return loss

    def distance(self, found: Tensor, expected: np.ndarray) -> Tensor:
        """The sum of the loss over texts, for embeddings (B, d) and the teacher's (B, D)."""
        return self._distance(self.projected(found), expected)

    def projected(self, found: Tensor) -> Tensor:
        """Embeddings (B, d) in the teacher's space (B, D)."""
        return found if self.projection is None else ops.linear(found, self.projection)

    def parts(self) -> dict[str, float]:
        """The loss by its name, `pairwise` where it has a weight, and what the features came to."""
        parts, self._parts = self._parts, {}
        return {**parts, **self.reading.parts()}

    def _add(self, name: str, value: Tensor) -> None:
        self._parts[name] = self._parts.get(name, 0.0) + value.item()


def new_projection(width: int, own: int, *, seed: int, dtype: np.dtype) -> Parameter:
    """A projection (width, own) to learn, drawn from `seed`: with orthonormal columns, or rows
    where it narrows, so that at the start similarities are kept.

    Raises ShapeError for equal widths, which need none.
    """
    if width == own:
        raise ShapeError(f"embeddings of {own} numbers need no projection to {width}", hint="none")
    drawn = stream(seed, PROJECTION).standard_normal((max(width, own), min(width, own)))
    columns, triangle = np.linalg.qr(drawn)
    columns *= np.sign(np.diag(triangle))  # the one decomposition with a positive diagonal
    return Parameter((columns if width > own else columns.T).astype(dtype, order="C"))
