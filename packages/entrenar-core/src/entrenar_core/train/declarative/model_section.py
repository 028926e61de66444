"""The section `model`: what is trained."""

import json
from typing import Any

from pydantic import Field, ValidationInfo, field_validator

from entrenar_core.train.adapter import Names
from entrenar_core.train.paths import FilePath
from entrenar_core.train.problems import of_section
from entrenar_core.train.strict import StrictModel

__all__ = ["ModelSection"]

SMALLEST_VOCABULARY = 257
"""All bytes, and the end of a text."""


class ModelSection(StrictModel):
    """The model that is trained: exactly one of `path` and `config`."""

    path: FilePath | None = Field(
        None,
        description="start from this model: a Hugging Face folder, a GGUF or APR file, or org/name "
        "on the hub",
    )
    revision: str | None = Field(
        None, min_length=1, description="branch, tag or commit of a model on the hub"
    )
    config: dict[str, Any] | None = Field(
        None,
        validate_default=True,
        description="start from random weights: an architecture in the keys of a Hugging Face "
        "config.json (model_type, hidden_size, num_hidden_layers, ...)",
    )
    tokenizer: FilePath | None = Field(
        None, description="with config, a folder or GGUF file whose tokenizer the model reads with"
    )
    vocab_size: int | None = Field(
        None,
        ge=SMALLEST_VOCABULARY,
        validate_default=True,
        description="with config, entries of a tokenizer that is learned from the training data",
    )
    layers: Names | None = Field(
        None,
        description="modules that an adapter may change, such as [q_proj, v_proj]: what "
        "lora.target_modules is when it is absent",
    )

    @field_validator("revision")
    @classmethod
    def _of_a_path(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is not None and info.data.get("path", "") is None:
            raise ValueError("goes with path, which is not given")
        return value

    @field_validator("config")
    @classmethod
    def _one_start(cls, value: dict[str, Any] | None, info: ValidationInfo) -> Any:
        # an invalid one is absent from info.data: it has been given, and is reported already
        given = (info.data.get("path", "") is not None) + (value is not None)
        if given != 1:
            text = "give one of path and config"
            raise of_section(text + (", not both (null takes one back)" if given else ""))
        try:
            json.dumps(value, allow_nan=False)
        except ValueError as error:
            raise ValueError("every number must be finite") from error
        return value

    @field_validator("tokenizer")
    @classmethod
    def _of_a_config(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is not None and info.data.get("config", "") is None:
            raise ValueError("goes with config: a model that is loaded has a tokenizer already")
        return value

    @field_validator("vocab_size")
    @classmethod
    def _one_tokenizer(cls, value: int | None, info: ValidationInfo) -> int | None:
        config, tokenizer = info.data.get("config", ""), info.data.get("tokenizer", "")
        if value is not None and config is None:
            raise ValueError("goes with config: a model that is loaded has a tokenizer already")
        if isinstance(config, dict) and (value is None) == (tokenizer is None):
            text = "a config needs one of tokenizer and vocab_size"
            raise of_section(text + (", not both" if value is not None else ""))
        return value

    @property
    def name(self) -> str:
        """What is started from, in a few words."""
        return self.path or "initialised from a config"
