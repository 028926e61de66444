"""The objective of fitting a number to each whole text."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from entrenar_common.errors import ConfigError
from entrenar_core.autograd import Parameter, Tensor, ops
from entrenar_core.data.text_batches import TextBatch
from entrenar_core.distill.text_teacher import outputs

__all__ = ["NumberRegression"]


class NumberRegression:
    """Σ(f(x) − y)² over the texts of an optimizer step, / how many there are: `model` makes one
    number (B, 1) of each text, and `batch.labels` (B,) are the numbers that are wanted."""

    def __init__(self, model: Any):
        self.model = model

    def parameters(self) -> dict[str, Parameter]:
        """None besides the model's."""
        return {}

    def begin(self, step: int, batches: Sequence[TextBatch]) -> None:
        """Every step is alike."""

    def loss(self, batch: TextBatch, normalizer: int) -> Tensor:
        """Raises ConfigError for texts without numbers."""
        if batch.labels is None:
            raise ConfigError("regression of texts without numbers", hint="name their label field")
        found = outputs(self.model, batch)  # (B, 1)
        wanted = np.asarray(batch.labels, found.dtype).reshape(found.shape)
        return ops.mse(found, wanted) * (batch.targets / normalizer)

    def parts(self) -> dict[str, float]:
        return {}
