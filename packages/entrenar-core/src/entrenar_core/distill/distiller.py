"""The objective of logit distillation: Hinton et al. 2015, arXiv:1503.02531."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from entrenar_core.autograd import Parameter, Tensor, ops
from entrenar_core.autograd.ops.expected import Expected
from entrenar_core.data.batches import Batch
from entrenar_core.distill.teacher import Teacher
from entrenar_core.kernels.divergences import Divergence


class Distillation:
    """α·T²·D(teacher, student) + (1 − α)·cross-entropy, per valid token of the optimizer step.

    The divergence D (mse is without T²) is over what teacher and student both have. The logits of
    either exist for a chunk of tokens at a time.
    """

    def __init__(self, student: Any, teacher: Teacher, *, divergence: Divergence, alpha: float):
        self.student, self.teacher = student, teacher
        self.divergence, self.alpha = divergence, alpha
        self._parts = ops.DistillationParts()

    def parameters(self) -> dict[str, Parameter]:
        """None besides the student's."""
        return {}

    def begin(self, step: int, batches: Sequence[Batch]) -> None:
        """Every step is alike."""

    def loss(self, batch: Batch, normalizer: int) -> Tensor:
        expected = self.teacher.expected(batch)
        found = self.student.hidden(batch.ids, documents=batch.segments)
        return self.loss_of(found, expected, batch, normalizer)

    def loss_of(self, found: Tensor, expected: Expected, batch: Batch, normalizer: int) -> Tensor:
        """The loss of the student's last hidden states (B, T, width) for `batch`, beside what is
        expected there."""
        return ops.linear_distillation(
            found,
            self.student.output_weight,
            batch.labels,
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
