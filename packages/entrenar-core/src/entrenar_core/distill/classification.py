"""The objectives of classifying whole texts: from a teacher's logits, and from labels alone."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from entrenar_common.errors import ConfigError
from entrenar_core.autograd import Parameter, Tensor, ops
from entrenar_core.data.text_batches import TextBatch
from entrenar_core.distill.text_features import TextReading
from entrenar_core.distill.text_teacher import outputs
from entrenar_core.kernels.divergences import Divergence

__all__ = ["ClassificationDistillation", "LabelClassification"]


class ClassificationDistillation:
    """α·T²·D(teacher, student) + (1 − α)·cross-entropy, per text of the optimizer step.

    The divergence D (mse is without T²) is over the classes. With α = 1 texts need no labels.
    """

    def __init__(self, reading: TextReading, *, divergence: Divergence, alpha: float):
        self.reading, self.divergence, self.alpha = reading, divergence, alpha
        self._parts = ops.DistillationParts()
        self._labelled = True

    def parameters(self) -> dict[str, Parameter]:
        """Those of the losses of features."""
        return self.reading.parameters()

    def begin(self, step: int, batches: Sequence[TextBatch]) -> None:
        self.reading.begin(step, batches)

    def loss(self, batch: TextBatch, normalizer: int) -> Tensor:
        """Raises ConfigError for texts without labels where α is below 1."""
        found, expected, inside = self.reading.read(batch)
        self._labelled = batch.labels is not None
        labels = np.zeros(len(found), np.int64) if self.alpha == 1 else _labels(batch)
        if self.alpha == 1 and batch.labels is not None:
            labels = batch.labels  # for the log
        loss = ops.logit_distillation(
            found, expected, labels, divergence=self.divergence, alpha=self.alpha,
            normalizer=normalizer, parts=self._parts,
        )  # fmt: skip
        return loss if inside is None else loss + inside

    def parts(self) -> dict[str, float]:
        """`cross_entropy` (of texts with labels), `divergence` (without T²), `agreement` with the
        teacher, and what the features came to."""
        parts, self._parts = asdict(self._parts), ops.DistillationParts()
        if not self._labelled:
            del parts["cross_entropy"]
        return {**parts, **self.reading.parts()}


class LabelClassification:
    """Cross-entropy of the labels; `label_smoothing` is a share of each that all classes have
    alike."""

    def __init__(self, model: Any, *, label_smoothing: float = 0.0):
        self.model, self.label_smoothing = model, label_smoothing

    def parameters(self) -> dict[str, Parameter]:
        """None besides the model's."""
        return {}

    def begin(self, step: int, batches: Sequence[TextBatch]) -> None:
        """Every step is alike."""

    def loss(self, batch: TextBatch, normalizer: int) -> Tensor:
        """Raises ConfigError for texts without labels."""
        losses = ops.cross_entropy(
            outputs(self.model, batch), _labels(batch),
            label_smoothing=self.label_smoothing, reduction="sum",
        )  # fmt: skip
        return losses / normalizer

    def parts(self) -> dict[str, float]:
        return {}


def _labels(batch: TextBatch) -> np.ndarray:
    if batch.labels is None:
        raise ConfigError("cross-entropy of texts without labels", hint="name their label field")
    return batch.labels
