"""The section `dataset`: what teacher, student and control read."""

from typing import Any, Literal

from pydantic import Field, ValidationInfo, field_validator

from entrenar_core.io.hub_model import is_hub_name
from entrenar_core.train.strict import StrictModel
from entrenar_distill.paths import FilePaths


class DatasetConfig(StrictModel):
    """The text that teacher, student and control see."""

    source: Literal["files", "huggingface"] = Field(
        "files", description="where the text comes from: this machine, or a dataset on the hub"
    )
    name: FilePaths = Field(
        min_length=1,
        description="files, folders or globs to read, one or a list; on the hub org/name",
    )
    exclude: FilePaths = Field((), description="files, folders or globs to leave out")
    revision: str | None = Field(
        None, min_length=1, description="hub: branch, tag or commit; the main branch when absent"
    )
    subset: str | None = Field(
        None, min_length=1, description="hub: name of a config; the default one when absent"
    )
    split: str | None = Field(
        None, min_length=1, description="hub: which part to read; train when absent"
    )
    format: Literal["auto", "text", "jsonl", "csv", "parquet"] = Field(
        "auto", description="format of the files; auto goes by their suffix"
    )
    text_field: str = Field(
        "text", min_length=1, description="field or column that holds the text (not for text files)"
    )
    route_field: str | None = Field(
        None,
        min_length=1,
        description="field or column whose value says which of several teachers a document is "
        "learned from (see teacher.route)",
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
    streaming: bool = Field(
        False, description="hub: fetch only what is read, and keep no copy of the files"
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

    @field_validator("name")
    @classmethod
    def _one_name_on_the_hub(cls, value: tuple[str, ...], info: ValidationInfo) -> Any:
        one = len(value) == 1 and is_hub_name(value[0])
        if info.data.get("source") == "huggingface" and not one:
            raise ValueError("must be the name of one dataset on the hub, such as org/name")
        return value

    @field_validator("revision", "subset", "split", "streaming")
    @classmethod
    def _of_the_hub(cls, value: Any, info: ValidationInfo) -> Any:
        if value and info.data.get("source") == "files":
            raise ValueError("belongs to source: huggingface")
        return value

    @field_validator("exclude", "format")
    @classmethod
    def _of_files(cls, value: Any, info: ValidationInfo) -> Any:
        if value not in ((), "auto") and info.data.get("source") == "huggingface":
            raise ValueError("belongs to source: files")
        return value

    @property
    def rows(self) -> str:
        """What a sequence has of documents, in words."""
        if not self.packing:
            return "one document in each"
        return "packed documents, each read by itself" if self.boundaries else "packed documents"
