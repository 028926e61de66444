"""What a training loop minimises."""

from collections.abc import Sequence
from typing import Any, Protocol

from entrenar_core.autograd import Parameter, Tensor, ops
from entrenar_core.data.batches import Batch


class Objective(Protocol):
    """A loss that adds up over the micro-batches of an optimizer step."""

    def parameters(self) -> dict[str, Parameter]:
        """What is trained besides the model, and is no part of it, by name."""
        ...

    def begin(self, step: int, batches: Sequence[Batch]) -> None:
        """Called before each optimizer step, counted from 0, with all of its micro-batches."""
        ...

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

    def parameters(self) -> dict[str, Parameter]:
        """None besides the model's."""
        return {}

    def begin(self, step: int, batches: Sequence[Batch]) -> None:
        """Every step is alike."""

    def loss(self, batch: Batch, normalizer: int) -> Tensor:
        hidden = self.model.hidden(batch.ids, documents=batch.segments)
        return ops.linear_cross_entropy(
            hidden, self.model.output_weight, batch.labels, normalizer=normalizer
        )

    def parts(self) -> dict[str, float]:
        return {}
