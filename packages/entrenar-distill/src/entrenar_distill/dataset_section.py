"""The section `dataset`: what teacher, student and control read."""

from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator
from pydantic.json_schema import SkipJsonSchema

from entrenar_core.train.config import Later
from entrenar_core.train.strict import StrictModel
from entrenar_distill.paths import FilePaths


class DatasetConfig(StrictModel):
    """The text that teacher, student and control see."""

    source: Annotated[Literal["files"], Later(("huggingface",))] = Field(
        "files", description="where the text comes from"
    )
    name: FilePaths = Field(
        min_length=1, description="files, folders or globs to read, one or a list"
    )
    exclude: FilePaths = Field((), description="files, folders or globs to leave out")
    split: SkipJsonSchema[str | None] = Field(None, description="part of a dataset on the hub")
    format: Literal["auto", "text", "lines", "jsonl", "csv", "parquet"] = Field(
        "auto",
        description="format of the files; auto goes by their suffix; lines: each line of a text "
        "file is a document (text: each file is one)",
    )
    text_field: str = Field(
        "text", min_length=1, description="field or column that holds the text (not for text files)"
    )
    text_pair_field: str | None = Field(
        None,
        min_length=1,
        description="field or column that holds a second text, for pairs that are classified",
    )
    label_field: str | None = Field(
        None,
        min_length=1,
        description="field or column that holds the class of a text: a label of the teacher, or "
        "its number",
    )
    max_length: int = Field(
        256,
        ge=2,
        description="tokens in a sequence; whole texts are cut to it, special tokens included",
    )
    packing: bool = Field(
        True, description="join documents into full sequences, instead of one document in each"
    )
    mask_share: float = Field(
        0.15,
        gt=0,
        lt=1,
        description="share of the tokens that are hidden, for masked-lm; others in each epoch",
    )
    streaming: Annotated[Literal[False], Later()] = Field(
        False, description="read the text while training"
    )
    held_out: float = Field(
        0.05, gt=0, le=0.5, description="share of the documents kept back to measure the models on"
    )
    skip_bad: bool = Field(
        False, description="leave documents that cannot be read out, and count them"
    )
    max_documents: int | None = Field(None, ge=2, description="read this many documents at most")

    @field_validator("split")
    @classmethod
    def _split_of_a_hub_dataset(cls, value: str | None, info: ValidationInfo) -> str | None:
        # When the source itself is refused, that is reported, and this key goes with it.
        if value is not None and "source" in info.data:
            raise ValueError("belongs to source: huggingface; dataset.held_out splits files")
        return value
