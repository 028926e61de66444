"""One optimizer step: micro-batches, their gradients, and the update."""

import math
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

from entrenar_core.autograd.precision import multiplied_in
from entrenar_core.nn import dropout
from entrenar_core.optim import Optimizer
from entrenar_core.qat import QuantizedModel
from entrenar_core.train.config import TrainingConfig
from entrenar_core.train.objective import Objective
from entrenar_core.train.rows import Rows
from entrenar_core.train.trace import Recorder

__all__ = ["Steps", "Taken"]


@dataclass(frozen=True)
class Taken:
    """A step: its loss per target, the norm of its gradients, NaN where the loss was not finite,
    and what it was of. Where the norm is not finite, nothing has moved."""

    loss: float
    norm: float
    micro_batches: Sequence[Any]

    @property
    def finite(self) -> bool:
        """Whether it has moved the weights."""
        return math.isfinite(self.norm)

    @property
    def tokens(self) -> int:
        """Those of all its micro-batches."""
        return sum(batch.tokens for batch in self.micro_batches)


class Steps:
    """The optimizer steps of a training, each a function of its number, its learning rate and what
    the weights and moments are before it."""

    def __init__(
        self,
        objective: Objective,
        batches: Rows,
        config: TrainingConfig,
        optimizer: Optimizer,
        *,
        quantized: QuantizedModel | None = None,
        recorder: Recorder | None = None,
    ):
        self.objective, self.batches, self.config = objective, batches, config
        self.optimizer, self.quantized = optimizer, quantized
        self.recorder = recorder or Recorder()

    def take(self, number: int, rate: float) -> Taken:
        """Take the step of that number, counted from 0."""
        span = self.recorder.span
        with span("data"):
            micro_batches = self._micro_batches(number)
        targets = sum(batch.targets for batch in micro_batches)
        with multiplied_in(self.config.products):
            self.objective.begin(number, micro_batches)
            loss = self.gradients(number, micro_batches, max(1, targets))
        norm = math.nan
        if math.isfinite(loss):
            with span("optimizer"):
                norm = self.optimizer.step(rate, max_norm=self.config.max_grad_norm)
        return Taken(loss, norm, micro_batches)

    def _micro_batches(self, number: int) -> list[Any]:
        accumulation = self.config.gradient_accumulation
        first = number * accumulation
        return [self.batches.batch(first + i) for i in range(accumulation)]

    def gradients(self, number: int, micro_batches: Sequence[Any], targets: int) -> float:
        """Add up the gradients of the step of that number; returns its loss per target."""
        span = self.recorder.span
        self.optimizer.zero_grad()
        total = 0.0
        with self._on_stored_weights(number):
            for index, batch in enumerate(micro_batches):
                # by the number of the micro-batch: a step that is taken again drops the same
                with dropout(self.config.seed, number * len(micro_batches) + index):
                    with span("forward"):
                        loss = self.objective.loss(batch, targets)
                    with span("backward"):
                        loss.backward()
                total += loss.item()
            if self.quantized is not None and not math.isfinite(total):
                self.quantized.forget_inputs()
        return total

    def _on_stored_weights(self, number: int) -> AbstractContextManager[None]:
        return nullcontext() if self.quantized is None else self.quantized.active(number)
