"""What a training loop minimises."""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from entrenar_core.autograd import Parameter, Tensor, ops
from entrenar_core.data.array_batches import ArrayBatch
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
    """Cross-entropy of the next token, or with another `reading` of what that has as labels;
    `label_smoothing` is a share of each target that all tokens have alike."""

    def __init__(self, model: Any, *, reading: Reading = CAUSAL, label_smoothing: float = 0.0):
        self.model, self.reading, self.label_smoothing = model, reading, label_smoothing

    def parameters(self) -> dict[str, Parameter]:
        """None besides the model's."""
        return {}

    def begin(self, step: int, batches: Sequence[Batch]) -> None:
        """Every step is alike."""

    def loss(self, batch: Batch, normalizer: int) -> Tensor:
        states = self.reading.states(self.model, batch)
        rows, targets, weight, bias = self.reading.predictions(self.model, states, batch.labels)
        return ops.linear_cross_entropy(
            rows, weight, targets, bias, normalizer=normalizer, label_smoothing=self.label_smoothing
        )

    def parts(self) -> dict[str, float]:
        return {}


class Supervised:
    """`loss` of what `model` makes of the inputs of an `ArrayBatch` and what was wanted: a function
    of a tensor and an array whose value is a mean over rows."""

    def __init__(self, model: Callable[[Any], Tensor], loss: Callable[[Tensor, Any], Tensor]):
        self.model, self._loss = model, loss

    def parameters(self) -> dict[str, Parameter]:
        """None besides the model's."""
        return {}

    def begin(self, step: int, batches: Sequence[ArrayBatch]) -> None:
        """Every step is alike."""

    def loss(self, batch: ArrayBatch, normalizer: int) -> Tensor:
        return self._loss(self.model(batch.inputs), batch.wanted) * (batch.targets / normalizer)

    def parts(self) -> dict[str, float]:
        return {}
