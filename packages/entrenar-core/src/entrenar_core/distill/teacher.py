"""Who a student learns from."""

from typing import Any, Protocol

from entrenar_core.autograd import no_grad, ops
from entrenar_core.autograd.ops.expected import Expected
from entrenar_core.data.batches import Batch
from entrenar_core.nn import no_dropout


class Teacher(Protocol):
    """Something that has an opinion on every position of a batch."""

    def expected(self, batch: Batch) -> Expected:
        """What it says about the positions of `batch.ids`, row by row."""
        ...


class LiveTeacher:
    """A language model that reads the batch as the student does, without a tape. Its first `shared`
    ids mean the same to both."""

    def __init__(self, model: Any, *, shared: int):
        self.model, self.shared = model, shared

    def expected(self, batch: Batch) -> Expected:
        return self.hidden(batch)

    def hidden(self, batch: Batch) -> ops.FromHidden:
        """The same, as what has logits of its own."""
        with no_grad(), no_dropout():
            hidden = self.model.hidden(batch.ids, documents=batch.segments)
        return self.expected_of(hidden.data)

    def expected_of(self, hidden: Any) -> ops.FromHidden:
        """The same, of the model's last hidden states (B, T, width)."""
        return ops.FromHidden(hidden, self.model.output_weight.data, shared=self.shared)
