"""The objective of logit distillation: Hinton et al. 2015, arXiv:1503.02531."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from entrenar_core.autograd import Parameter, Tensor, ops
from entrenar_core.autograd.ops.expected import Expected
from entrenar_core.data.batches import Batch
from entrenar_core.distill.teacher import Teacher
from entrenar_core.kernels.divergences import Divergence
from entrenar_core.models.reading import CAUSAL, Reading


class Distillation:
    """α·T²·D(teacher, student) + (1 − α)·cross-entropy, per valid token of the optimizer step.

    The divergence D (mse is without T²) is over what teacher and student both have. The logits of
    either exist for a chunk of tokens at a time. Masked language models are distilled with the
    `reading` MASKED, at the positions that were chosen alone.
    """

    def __init__(
        self,
        student: Any,
        teacher: Teacher,
        *,
        divergence: Divergence,
        alpha: float,
        reading: Reading = CAUSAL,
    ):
        self.student, self.teacher, self.reading = student, teacher, reading
        self.divergence, self.alpha = divergence, alpha
        self._parts = ops.DistillationParts()

    def parameters(self) -> dict[str, Parameter]:
        """None besides the student's."""
        return {}

    def begin(self, step: int, batches: Sequence[Batch]) -> None:
        """Every step is alike."""

    def loss(self, batch: Batch, normalizer: int) -> Tensor:
        expected = self.teacher.expected(batch)
        states = self.reading.states(self.student, batch)
        return self.loss_of(states, expected, batch, normalizer)

    def loss_of(self, states: Tensor, expected: Expected, batch: Batch, normalizer: int) -> Tensor:
        """The loss of the student's last hidden states (B, T, width) for `batch`, beside what is
        expected there."""
        rows, targets, weight, bias = self.reading.predictions(self.student, states, batch.labels)
        return ops.linear_distillation(
            rows,
            weight,
            targets,
            bias,
            expected=expected,
            divergence=self.divergence,
            alpha=self.alpha,
            normalizer=normalizer,
            parts=self._parts,
        )

    def parts(self) -> dict[str, float]:
        """`cross_entropy`, `divergence` (without T²) and `agreement` with the teacher."""
        parts, self._parts = self._parts, ops.DistillationParts()
        return asdict(parts)
