"""The objective of logit distillation: Hinton et al. 2015, arXiv:1503.02531."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from entrenar_core.autograd import Parameter, Tensor, no_grad, ops
from entrenar_core.data.batches import Batch
from entrenar_core.kernels.divergences import Divergence
from entrenar_core.nn import no_dropout


class Distillation:
    """α·T²·D(teacher, student) + (1 − α)·cross-entropy, per valid token of the optimizer step.

    The divergence D is over the first `shared` ids (mse is without T²). The teacher runs without a
    tape, and the logits of both exist for a chunk of tokens at a time.
    """

    def __init__(
        self, student: Any, teacher: Any, *, divergence: Divergence, alpha: float, shared: int
    ):
        self.student, self.teacher = student, teacher
        self.divergence, self.alpha, self.shared = divergence, alpha, shared
        self._parts = ops.DistillationParts()

    def parameters(self) -> dict[str, Parameter]:
        """None besides the student's."""
        return {}

    def begin(self, step: int, batches: Sequence[Batch]) -> None:
        """Every step is alike."""

    def loss(self, batch: Batch, normalizer: int) -> Tensor:
        with no_grad(), no_dropout():
            expected = self.teacher.hidden(batch.ids)
        return self.loss_of(self.student.hidden(batch.ids), expected, batch, normalizer)

    def loss_of(self, found: Tensor, expected: Tensor, batch: Batch, normalizer: int) -> Tensor:
        """The loss of the last hidden states (B, T, width) of student and teacher for `batch`."""
        return ops.linear_distillation(
            found,
            self.student.output_weight,
            expected.data,
            self.teacher.output_weight.data,
            batch.labels,
            divergence=self.divergence,
            alpha=self.alpha,
            shared=self.shared,
            normalizer=normalizer,
            parts=self._parts,
        )

    def parts(self) -> dict[str, float]:
        """`cross_entropy`, `divergence` (without T²) and `agreement` with the teacher."""
        parts, self._parts = self._parts, ops.DistillationParts()
        return asdict(parts)
