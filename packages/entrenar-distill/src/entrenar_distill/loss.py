"""The section `distillation`: the loss that a student is trained on.

What the divergences are is in `entrenar_core.kernels.divergences`, and docs/distillation.md says
which to take.
"""

from typing import TYPE_CHECKING, Literal

from pydantic import Field, ValidationInfo, field_validator

from entrenar_core.train.strict import StrictModel
from entrenar_distill.cross_tokenizer_section import CrossTokenizerSection
from entrenar_distill.feature_sections import AttentionSection, ProgressiveSection

if TYPE_CHECKING:
    from entrenar_core.kernels.divergences import Divergence

__all__ = ["DistillationConfig", "EmbeddingSection"]


class EmbeddingSection(StrictModel):
    """How sentence embeddings are learned from the teacher's."""

    loss: Literal["cosine", "mse"] = Field(
        "cosine",
        description="of each text: 1 − the cosine to the teacher's embedding, or the mean square "
        "of the difference",
    )
    pairwise: float = Field(
        0.0,
        ge=0,
        description="weight of learning the similarities between the texts of a micro-batch too: "
        "the only part that depends on how a step is cut into micro-batches",
    )


class DistillationConfig(StrictModel):
    """The loss: alpha·T²·divergence(teacher, student) + (1 − alpha)·cross-entropy, per valid token
    of the whole optimizer step."""

    temperature: float = Field(
        2.0, gt=0, description="T: both models' logits are divided by it in the teacher's part"
    )
    alpha: float = Field(
        0.5, ge=0, le=1, description="share of the teacher's part; the rest is cross-entropy"
    )
    loss: Literal[
        "forward_kl",
        "reverse_kl",
        "jsd",
        "symmetric",
        "skewed_forward_kl",
        "skewed_reverse_kl",
        "tvd",
        "mse",
    ] = Field(
        "forward_kl",
        description="divergence of teacher and student, 0 where they are equal: KL in either "
        "direction; jsd, divided by beta·(1 − beta); beta·forward + (1 − beta)·reverse KL "
        "(symmetric); KL from a mixture (skewed); half the sum of all differences of probabilities "
        "(tvd); the mean square of the difference of logits/T, less its mean over the ids, as a "
        "softmax does not see a shift (mse, without T²)",
    )
    beta: float | None = Field(
        None,
        ge=0,
        le=1,
        description="the teacher's weight in jsd, where 0 gives forward and 1 reverse KL, or that "
        "of forward KL in symmetric; 0.5 when absent",
    )
    skew: float | None = Field(
        None,
        ge=0,
        lt=1,
        description="for skewed_forward_kl, the share of the teacher in the mixture that stands "
        "for the student; for skewed_reverse_kl, the other way round; 0.1 when absent",
    )
    top_k: int | None = Field(
        None,
        ge=1,
        description="only the teacher's so many likeliest ids count by themselves, all others "
        "together as one; every id when absent",
    )
    embedding: EmbeddingSection | None = Field(
        None, description="the loss of sentence-embedding; its defaults when absent"
    )
    progressive: ProgressiveSection | None = Field(
        None, description="also learn from the teacher's hidden states; not done when absent"
    )
    attention: AttentionSection | None = Field(
        None, description="also learn from the teacher's attention; not done when absent"
    )

    cross_tokenizer: CrossTokenizerSection | None = Field(
        None,
        description="learn from a teacher with another tokenizer, which is refused when absent",
    )

    @field_validator("cross_tokenizer")
    @classmethod
    def _compares_groups(
        cls, value: CrossTokenizerSection | None, info: ValidationInfo
    ) -> CrossTokenizerSection | None:
        if value is None:
            return None
        from entrenar_core.kernels.aligned import FINITE

        loss = info.data.get("loss", FINITE[0])
        if loss not in FINITE:
            raise ValueError(f"goes with loss {', '.join(FINITE)}, not {loss}: others are infinite")
        others = [n for n in ("top_k", "progressive", "attention") if info.data.get(n) is not None]
        if others:
            raise ValueError(f"does not go with {' and '.join(others)}: tokens are not in pairs")
        return value

    @field_validator("beta", "skew")
    @classmethod
    def _weight_of_the_loss(cls, value: float | None, info: ValidationInfo) -> float | None:
        if value is None or "loss" not in info.data:  # refused, and reported already
            return value
        from entrenar_core.kernels.divergences import DIVERGENCES

        loss = info.data["loss"]
        if DIVERGENCES[loss].weight != info.field_name:
            users = [name for name, form in DIVERGENCES.items() if form.weight == info.field_name]
            raise ValueError(f"goes with loss {' or '.join(users)}, not {loss}")
        return value

    def divergence(self) -> "Divergence":
        """The loss in the terms of `entrenar_core.distill`."""
        from entrenar_core.kernels.divergences import Divergence

        given = {"beta": self.beta, "skew": self.skew, "top_k": self.top_k}
        return Divergence(
            self.loss, self.temperature, **{k: v for k, v in given.items() if v is not None}
        )

    @property
    def formula(self) -> str:
        """What is minimised, in ASCII; with the factor T² where the divergence has it."""
        return self.with_features(f"{self.mixture}, per valid token")

    @property
    def mixture(self) -> str:
        """The teacher's and the labels' part of `formula`."""
        part = self.divergence().formula
        if self.cross_tokenizer is None:
            return f"alpha*{part} + (1-alpha)*CE"
        part = part.removeprefix("T^2*")
        return (
            f"alpha*T^2*[w_matched*{part} + w_sorted*sum|sorted teacher - sorted student|], per "
            "group of tokens + (1-alpha)*CE"
        )

    def with_features(self, formula: str) -> str:
        """`formula` and the terms about what is inside the teacher."""
        inside = [section for section in (self.progressive, self.attention) if section]
        return "".join([formula, *(f" + {section.weight:g}*{section.part}" for section in inside)])

    def settings(self) -> dict[str, float]:
        """The numbers that stand in the loss's formula, and top_k where it is given."""
        chosen = self.divergence()
        found: dict[str, float] = {"temperature": self.temperature, "alpha": self.alpha}
        if chosen.weight_name is not None:
            found[chosen.weight_name] = chosen.weight
        if chosen.top_k is not None:
            found["top_k"] = chosen.top_k
        return found
