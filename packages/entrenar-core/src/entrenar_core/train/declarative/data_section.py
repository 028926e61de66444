"""The section `data`: what is trained on, and what is measured on."""

from typing import Literal

from pydantic import Field, ValidationInfo, field_validator

from entrenar_core.train.paths import FilePaths
from entrenar_core.train.strict import StrictModel

__all__ = ["DataSection"]

HELD_OUT = 0.05


class DataSection(StrictModel):
    """Rows or texts to train on, and some to measure on."""

    train: FilePaths = Field(
        min_length=1,
        description="files, folders or globs to train on, one or a list: text, .jsonl, .csv, "
        ".parquet",
    )
    val: FilePaths | None = Field(
        None, min_length=1, description="files, folders or globs to measure on"
    )
    held_out: float | None = Field(
        None,
        gt=0,
        le=0.5,
        description=f"share of train that is kept back to measure on; {HELD_OUT} without val",
    )
    batch_size: int = Field(
        8,
        ge=1,
        description="sequences in a micro-batch; an optimizer step sees "
        "training.gradient_accumulation times as many",
    )
    max_length: int = Field(
        256,
        ge=2,
        description="tokens in a sequence; whole texts are cut to it, special tokens included",
    )
    packing: bool = Field(
        True,
        description="causal-lm: join documents into full sequences, instead of one document in "
        "each",
    )
    format: Literal["auto", "text", "lines", "jsonl", "csv", "parquet"] = Field(
        "auto",
        description="format of the files; auto goes by their suffix; lines: each line of a text "
        "file is a document (text: each file is one)",
    )
    auto_infer_types: bool = Field(
        True,
        description="find the columns of a table that hold text and labels by a sample of its rows",
    )
    text_field: str | None = Field(
        None,
        min_length=1,
        description="field or column that holds the text; found when absent, or text without "
        "auto_infer_types",
    )
    label_field: str | None = Field(
        None,
        min_length=1,
        description="field or column that holds the class or the number of a text; found when "
        "absent, or none without auto_infer_types",
    )
    skip_bad: bool = Field(False, description="leave rows that cannot be read out, and count them")

    @field_validator("held_out")
    @classmethod
    def _without_val(cls, value: float | None, info: ValidationInfo) -> float | None:
        if value is not None and info.data.get("val") is not None:
            raise ValueError("cannot be given together with val, which is measured on")
        return value

    @field_validator("label_field")
    @classmethod
    def _two_fields(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is not None and value == info.data.get("text_field"):
            raise ValueError("is text_field too: the label is beside the text")
        return value

    @property
    def share(self) -> float | None:
        """The share that is kept back, None where there is `val`."""
        return None if self.val is not None else (self.held_out or HELD_OUT)
