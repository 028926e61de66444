"""The objective of a student that learns from a teacher with another tokenizer.

Sources: Boizard et al. 2024, arXiv:2402.12030 (the sorted difference); the GOLD trainer of TRL
(groups of tokens, and the divergence over ids that both have). docs/cross-tokenizer.md says what
differs.
"""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from entrenar_common.errors import ConfigError
from entrenar_core.autograd import Parameter, Tensor, no_grad, ops
from entrenar_core.data.batches import Batch
from entrenar_core.distill.aligned_batch import AlignedBatch, AlignedRows
from entrenar_core.distill.alignment import Alignment
from entrenar_core.kernels.aligned import FINITE, Matching
from entrenar_core.kernels.divergences import Divergence
from entrenar_core.nn import no_dropout

__all__ = ["CrossTokenizerDistillation", "check_divergence", "describe"]


class CrossTokenizerDistillation:
    """α·T²·(w_m·divergence + w_s·sorted difference) per compared group of tokens of the optimizer
    step + (1 − α)·cross-entropy per valid token of it.

    `rows` says what `teacher` reads for a batch, and `matching` which ids mean the same. Logits
    exist for a chunk of tokens at a time. Raises ConfigError for a divergence that can be infinite
    here, and for a model with fewer rows than its tokenizer has ids.
    """

    def __init__(
        self,
        student: Any,
        teacher: Any,
        rows: AlignedRows,
        matching: Matching,
        *,
        divergence: Divergence,
        alpha: float,
    ):
        check_divergence(divergence)
        wanted = {"student": matching.student_ids, "teacher": matching.teacher_ids}
        for (name, ids), model in zip(wanted.items(), (student, teacher), strict=True):
            if model.config.vocab_size < ids:
                raise ConfigError(
                    f"the {name}'s tokenizer has {ids} ids, but its embedding has "
                    f"{model.config.vocab_size} rows",
                    hint=f"the {name} was made for another tokenizer, or its vocab_size is wrong",
                )
        self.student, self.teacher, self.rows, self.matching = student, teacher, rows, matching
        self.divergence, self.alpha = divergence, alpha
        self._groups: int | None = None
        self._parts = ops.AlignedParts()
        self._bytes = self._compared = 0

    def parameters(self) -> dict[str, Parameter]:
        """None besides the student's."""
        return {}

    def begin(self, step: int, batches: Sequence[Batch]) -> None:  # noqa: ARG002
        """Counts the groups of the step, whose mean the teacher's part is."""
        self._groups = sum(len(self.rows.read(batch).groups) for batch in batches)

    def loss(self, batch: Batch, normalizer: int) -> Tensor:
        """Raises ConfigError where no step was begun: its number of groups is not known."""
        if self._groups is None:
            raise ConfigError(
                f"a loss of groups of tokens for {batch.targets} tokens of an unknown step",
                hint="call begin(step, batches) first, with all micro-batches of the step",
            )
        beside = self.rows.read(batch)
        self._bytes += beside.bytes
        self._compared += beside.compared
        aligned = ops.Aligned(self._told(beside), beside.targets, beside.groups, self.matching)
        return ops.linear_aligned_distillation(
            self.student.hidden(batch.ids),
            self.student.output_weight,
            batch.labels,
            aligned=aligned,
            divergence=self.divergence,
            alpha=self.alpha,
            normalizer=normalizer,
            groups=max(1, self._groups),
            parts=self._parts,
        )

    def _told(self, beside: AlignedBatch) -> ops.FromHidden:
        with no_grad(), no_dropout():
            hidden = self.teacher.hidden(beside.ids).data
        rows = hidden.reshape(-1, hidden.shape[-1])[beside.places]
        weight = self.teacher.output_weight.data
        return ops.FromHidden(rows, weight, shared=self.matching.teacher_ids)

    def parts(self) -> dict[str, float]:
        """`cross_entropy` per token; `divergence` and `sorted` difference per group, without
        weights and T²; `aligned`, the share of the targets' bytes that are in compared groups."""
        found = asdict(self._parts)
        found["aligned"] = self._compared / self._bytes if self._bytes else 0.0
        self._parts, self._bytes, self._compared = ops.AlignedParts(), 0, 0
        return found


def check_divergence(divergence: Divergence) -> None:
    """Raise ConfigError unless `divergence` is one for groups of tokens."""
    if divergence.kind not in FINITE:
        raise ConfigError(
            f"{divergence.name} is no loss between different tokenizers: it can be infinite where "
            "one of them has a token that the other one has not",
            hint=f"take one of {', '.join(FINITE)}",
        )
    if divergence.top_k is not None:
        raise ConfigError(
            f"top_k {divergence.top_k} is no setting between different tokenizers",
            hint="leave it out: every id that both have counts",
        )


def describe(alignment: Alignment, matching: Matching) -> str:
    """How much two tokenizers have in common, in words, on the documents that were aligned."""
    share = 100 * alignment.bytes_one_to_one
    return (
        f"different tokenizers: {len(matching.teacher):,} of {matching.teacher_ids:,} of the "
        f"teacher's ids match by their bytes; {share:.0f} % of bytes in 1:1 groups"
    )
