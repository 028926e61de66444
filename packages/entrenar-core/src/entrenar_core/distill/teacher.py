"""Who a student learns from."""

from typing import Any, Protocol

from entrenar_core.autograd import Tensor, no_grad
from entrenar_core.autograd.ops.expected import Expected, FromHidden
from entrenar_core.data.batches import Batch
from entrenar_core.models.reading import CAUSAL, Reading
from entrenar_core.nn import no_dropout


class Teacher(Protocol):
    """Something that has an opinion on every position of a batch."""

    def expected(self, batch: Batch) -> Expected:
        """What it says about the positions of `batch.ids` at which a student predicts, row by
        row."""
        ...


class LiveTeacher:
    """A language model that reads the batch as the student does, without a tape. Its first `shared`
    ids mean the same to both."""

    def __init__(self, model: Any, *, shared: int, reading: Reading = CAUSAL):
        self.model, self.shared, self.reading = model, shared, reading

    def expected(self, batch: Batch) -> FromHidden:
        with no_grad(), no_dropout():
            states = self.reading.states(self.model, batch)
        return self.expected_of(states, batch)

    def expected_of(self, states: Tensor, batch: Batch) -> FromHidden:
        """The same, of the model's last hidden states (B, T, width)."""
        with no_grad(), no_dropout():
            made = self.reading.predictions(self.model, states, batch.labels)
        bias = None if made.bias is None else made.bias.data
        return FromHidden(made.rows.data, made.weight.data, shared=self.shared, bias=bias)
