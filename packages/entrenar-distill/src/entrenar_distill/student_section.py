"""The section `student`: who learns."""

import json
from itertools import pairwise
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from entrenar_core.train.adapter import LoraSection
from entrenar_core.train.paths import FilePath
from entrenar_core.train.problems import SECTION
from entrenar_core.train.quantization import format_name
from entrenar_core.train.strict import StrictModel


def _layers(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


Indices = Annotated[
    tuple[Annotated[int, Field(ge=0)], ...],
    Field(min_length=1),
    BeforeValidator(_layers, json_schema_input_type=list[Annotated[int, Field(ge=0)]]),
]


class StudentConfig(StrictModel):
    """The model that learns: exactly one of `model_id`, `config` and `layers_from_teacher`."""

    model_id: FilePath | None = Field(
        None, description="start from this model: a Hugging Face folder, or org/name on the hub"
    )
    revision: str | None = Field(
        None, min_length=1, description="branch, tag or commit of a model on the hub"
    )
    config: dict[str, Any] | None = Field(
        None,
        description="start from random weights: an architecture in the keys of a Hugging Face "
        "config.json (hidden_size, num_hidden_layers, ...)",
    )
    tokenizer: FilePath | None = Field(
        None,
        description="with config, a folder whose tokenizer the student reads with; the teacher's "
        "when absent",
    )
    layers_from_teacher: Indices | None = Field(
        None,
        validate_default=True,
        description="start from these layers of the teacher, counted from 0, in rising order",
    )

    lora: LoraSection | None = Field(
        None, description="train an adapter instead of the weights; not done when absent"
    )
    quantize: str | None = Field(
        None,
        description="format in which the weights beside an adapter are held in memory, such as "
        "nf4, int8 or q8_0 (QLoRA); as they are when absent",
    )

    @field_validator("lora")
    @classmethod
    def _adapts_a_model(cls, value: LoraSection | None, info: ValidationInfo) -> Any:
        if value is None or not value.enabled:
            return None
        if info.data.get("config") is not None:
            raise ValueError("adapts a model that has learned: give model_id, not config")
        if not value.fuse and info.data.get("model_id", "") is None:
            raise ValueError("fuse: false needs model_id: an adapter alone is of no use")
        return value

    @field_validator("quantize")
    @classmethod
    def _known_format(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is None:
            return None
        if info.data.get("lora", ...) is None:
            raise ValueError("goes with lora: weights in few bits are not trained themselves")
        if info.data.get("model_id", "") is None:
            raise ValueError("goes with model_id")
        return format_name(value)

    @field_validator("revision")
    @classmethod
    def _revision_of_a_model(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is not None and info.data.get("model_id", "") is None:
            raise ValueError("goes with model_id, which is not given")
        return value

    @field_validator("tokenizer")
    @classmethod
    def _tokenizer_of_a_config(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is not None and info.data.get("config", "") is None:
            raise ValueError("goes with config: another student has a tokenizer already")
        return value

    @field_validator("config")
    @classmethod
    def _plain_data(cls, value: dict[str, Any] | None) -> dict[str, Any] | None:
        try:
            json.dumps(value, allow_nan=False)
        except ValueError as error:
            raise ValueError("every number must be finite") from error
        return value

    @field_validator("layers_from_teacher")
    @classmethod
    def _one_start(
        cls, value: tuple[int, ...] | None, info: ValidationInfo
    ) -> tuple[int, ...] | None:
        if value is not None and any(a >= b for a, b in pairwise(value)):
            raise ValueError("must be in rising order, each layer once")
        starts = [info.data.get("model_id", ...), info.data.get("config", ...), value]
        given = sum(start is not None for start in starts)
        # An invalid one is absent from info.data: it has been given, and is reported already.
        if given != 1:
            text = "give one of model_id, config and layers_from_teacher"
            if given:
                text += ", not several (null takes one back)"
            raise PydanticCustomError(SECTION, text)
        return value
