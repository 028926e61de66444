"""The section `dataset`: what teacher, student and control read."""

from typing import Any, Literal

from pydantic import Field, ValidationInfo, field_validator

from entrenar_core.io.hub_model import is_hub_name
from entrenar_core.train.paths import FilePath, FilePaths
from entrenar_core.train.strict import StrictModel

_KINDS = {
    "text_field": ("text",),
    "messages_field": ("chat",),
    "chat_template": ("chat",),
    "prompt_field": ("completion",),
    "completion_field": ("completion",),
    "loss_on": ("chat", "completion"),
}
"""The kinds of rows that a key is about."""


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
    format: Literal["auto", "text", "lines", "jsonl", "csv", "parquet"] = Field(
        "auto",
        description="format of the files; auto goes by their suffix; lines: each line of a text "
        "file is a document (text: each file is one)",
    )
    kind: Literal["text", "chat", "completion"] = Field(
        "text",
        description="what a document is: a text; a conversation, a list of messages with role and "
        "content; or a prompt with its completion",
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
    messages_field: str = Field(
        "messages", min_length=1, description="field or column that holds the messages (chat)"
    )
    chat_template: FilePath | None = Field(
        None,
        description="file with the Jinja template that makes text of messages (chat); the "
        "teacher's own when absent",
    )
    prompt_field: str = Field(
        "prompt", min_length=1, description="field or column that holds the prompt (completion)"
    )
    completion_field: str = Field(
        "completion",
        min_length=1,
        description="field or column that holds the completion (completion)",
    )
    loss_on: Literal["answers", "all"] | None = Field(
        None,
        description="what is learned of conversations and completions: the answers, which it is "
        "when absent, or all of the text",
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
    boundaries: bool = Field(
        False,
        description="with packing, let a token see its own document only, at positions that start "
        "anew with each, as if it were not packed",
    )
    mask_share: float = Field(
        0.15,
        gt=0,
        lt=1,
        description="share of the tokens that are hidden, for masked-lm; others in each epoch",
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

    @field_validator(*_KINDS)
    @classmethod
    def _goes_with_the_kind(cls, value: str | None, info: ValidationInfo) -> str | None:
        assert info.field_name
        kinds, kind = _KINDS[info.field_name], info.data.get("kind")
        # A run's own copy of its configuration spells out all defaults.
        given = value != cls.model_fields[info.field_name].default
        if given and kind is not None and kind not in kinds:
            raise ValueError(f"goes with kind: {' or '.join(kinds)}, and the kind is {kind}")
        return value

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
    def answers_only(self) -> bool:
        """Whether tokens are trained on, and scored, that are of answers alone."""
        return self.kind != "text" and self.loss_on != "all"

    @property
    def rows(self) -> str:
        """What a sequence has of documents, in words."""
        if not self.packing:
            return "one document in each"
        return "packed documents, each read by itself" if self.boundaries else "packed documents"
