"""The section `dataset`: what teacher, student and control read."""

from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator
from pydantic.json_schema import SkipJsonSchema

from entrenar_core.train.config import Later
from entrenar_core.train.strict import StrictModel
from entrenar_distill.paths import FilePath, FilePaths

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
    kind: Literal["text", "chat", "completion"] = Field(
        "text",
        description="what a document is: a text; a conversation, a list of messages with role and "
        "content; or a prompt with its completion",
    )
    text_field: str = Field(
        "text", min_length=1, description="field or column that holds the text (not for text files)"
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
    max_length: int = Field(256, ge=2, description="tokens in a sequence")
    packing: bool = Field(
        True, description="join documents into full sequences, instead of one document in each"
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

    @property
    def answers_only(self) -> bool:
        """Whether tokens are trained on, and scored, that are of answers alone."""
        return self.kind != "text" and self.loss_on != "all"

    @field_validator("split")
    @classmethod
    def _split_of_a_hub_dataset(cls, value: str | None, info: ValidationInfo) -> str | None:
        # When the source itself is refused, that is reported, and this key goes with it.
        if value is not None and "source" in info.data:
            raise ValueError("belongs to source: huggingface; dataset.held_out splits files")
        return value
