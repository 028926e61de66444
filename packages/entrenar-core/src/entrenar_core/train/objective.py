"""What a training loop minimises."""

from typing import Any, Protocol

from entrenar_core.autograd import Tensor, ops
from entrenar_core.data.batches import Batch


class Objective(Protocol):
    """A loss that adds up over the micro-batches of an optimizer step."""

    def loss(self, batch: Batch, normalizer: int) -> Tensor:
        """The batch's share of the step's loss: a sum over its valid tokens / `normalizer`."""
        ...

    def parts(self) -> dict[str, float]:
        """What the loss was made of since the last call, for the log."""
        ...


class LanguageModelling:
    """Cross-entropy of the next token."""

    def __init__(self, model: Any):
        self.model = model

    def loss(self, batch: Batch, normalizer: int) -> Tensor:
        hidden = self.model.hidden(batch.ids)
        return ops.linear_cross_entropy(
            hidden, self.model.output_weight, batch.labels, normalizer=normalizer
        )

    def parts(self) -> dict[str, float]:
        return {}
