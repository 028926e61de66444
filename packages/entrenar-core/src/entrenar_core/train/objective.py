"""What a training loop minimises."""

from collections.abc import Sequence
from typing import Any, Protocol

from entrenar_core.autograd import Parameter, Tensor, ops
from entrenar_core.data.batches import Batch
from entrenar_core.models.reading import CAUSAL, Reading


class Objective(Protocol):
    """A loss that adds up over the micro-batches of an optimizer step, whose kind is that of the
    rows it is trained on: `Batch` or `TextBatch`."""

    def parameters(self) -> dict[str, Parameter]:
        """What is trained besides the model, and is no part of it, by name."""
        ...

    def begin(self, step: int, batches: Sequence[Any]) -> None:
        """Called before each optimizer step, counted from 0, with all of its micro-batches."""
        ...

    def loss(self, batch: Any, normalizer: int) -> Tensor:
        """The batch's share of the step's loss: a sum over its targets / `normalizer`."""
        ...

    def parts(self) -> dict[str, float]:
        """What the loss was made of since the last call, for the log."""
        ...


class LanguageModelling:
    """Cross-entropy of the next token, or with another `reading` of what that has as labels."""

    def __init__(self, model: Any, *, reading: Reading = CAUSAL):
        self.model, self.reading = model, reading

    def parameters(self) -> dict[str, Parameter]:
        """None besides the model's."""
        return {}

    def begin(self, step: int, batches: Sequence[Batch]) -> None:
        """Every step is alike."""

    def loss(self, batch: Batch, normalizer: int) -> Tensor:
        states = self.reading.states(self.model, batch)
        rows, targets, weight, bias = self.reading.predictions(self.model, states, batch.labels)
        return ops.linear_cross_entropy(rows, weight, targets, bias, normalizer=normalizer)

    def parts(self) -> dict[str, float]:
        return {}
