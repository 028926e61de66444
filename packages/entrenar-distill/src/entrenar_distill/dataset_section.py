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
    format: Literal["auto", "text", "jsonl", "csv", "parquet"] = Field(
        "auto", description="format of the files; auto goes by their suffix"
    )
    text_field: str = Field(
        "text", min_length=1, description="field or column that holds the text (not for text files)"
    )
    max_length: int = Field(256, ge=2, description="tokens in a sequence")
    packing: bool = Field(
        True, description="join documents into full sequences, instead of one document in each"
    )
    boundaries: bool = Field(
        False,
        description="with packing, let a token see its own document only, at positions that start "
        "anew with each, as if it were not packed",
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

    @field_validator("boundaries")
    @classmethod
    def _of_packed_documents(cls, value: bool, info: ValidationInfo) -> bool:
        if value and info.data.get("packing") is False:
            raise ValueError("goes with packing: without it, a sequence has one document only")
        return value

    @property
    def rows(self) -> str:
        """What a sequence has of documents, in words."""
        if not self.packing:
            return "one document in each"
        return "packed documents, each read by itself" if self.boundaries else "packed documents"

    @field_validator("split")
    @classmethod
    def _split_of_a_hub_dataset(cls, value: str | None, info: ValidationInfo) -> str | None:
        # When the source itself is refused, that is reported, and this key goes with it.
        if value is not None and "source" in info.data:
            raise ValueError("belongs to source: huggingface; dataset.held_out splits files")
        return value
