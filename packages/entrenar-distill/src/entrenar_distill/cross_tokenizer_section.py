"""The section `distillation.cross_tokenizer`: a teacher that reads other tokens."""

from typing import Literal

from pydantic import Field, ValidationInfo, field_validator

from entrenar_core.train.strict import StrictModel


class CrossTokenizerSection(StrictModel):
    """Teacher and student have different tokenizers: groups of their tokens that cover the same
    bytes are compared. docs/cross-tokenizer.md has the loss."""

    merge: Literal["observed"] = Field(
        "observed",
        description="the distribution of a group of several tokens: that at its first token, times "
        "the probabilities of those that came after it",
    )
    matched_weight: float | None = Field(
        None,
        ge=0,
        description="weight of the divergence over the ids that both have; the share of the "
        "teacher's ids that are among them when absent",
    )
    sorted_weight: float | None = Field(
        None,
        ge=0,
        validate_default=True,
        description="weight of the difference of the sorted probabilities of all other ids; what "
        "is left of 1 when absent",
    )

    @field_validator("sorted_weight")
    @classmethod
    def _both(cls, value: float | None, info: ValidationInfo) -> float | None:
        matched = info.data.get("matched_weight", ...)
        if matched is not ... and (matched is None) != (value is None):
            raise ValueError("give matched_weight and sorted_weight, or neither")
        if matched == value == 0:
            raise ValueError("nothing is compared where matched_weight is 0 too")
        return value
