"""The configuration of a distillation: what `distill.yaml` may say, and its fingerprint.

Paths are relative to the current directory; a leading `~` is the home folder.
"""

import hashlib
import json
import os
from collections.abc import Sequence
from itertools import pairwise
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo, field_validator
from pydantic.json_schema import SkipJsonSchema
from pydantic_core import PydanticCustomError

from entrenar_core.train.adapter import LoraSection
from entrenar_core.train.config import Later, Setting, StrictModel, TrainingConfig, load_config
from entrenar_core.train.problems import SECTION
from entrenar_core.train.quantization import format_name, recipe_name
from entrenar_distill.loss import DistillationConfig

__all__ = [
    "DatasetConfig",
    "DistillConfig",
    "DistillationConfig",
    "OutputConfig",
    "StudentConfig",
    "TeacherConfig",
    "as_yaml",
    "config_hash",
    "resolve",
]


def _paths(value: Any) -> Any:
    if isinstance(value, str):
        return (value,)
    if isinstance(value, list | tuple):
        return tuple(value)
    raise ValueError("must be a path or a list of paths")


def _layers(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


FilePath = Annotated[str, Field(min_length=1), AfterValidator(os.path.expanduser)]
FilePaths = Annotated[
    tuple[FilePath, ...],
    BeforeValidator(_paths, json_schema_input_type=str | list[FilePath]),
]
Indices = Annotated[
    tuple[Annotated[int, Field(ge=0)], ...],
    Field(min_length=1),
    BeforeValidator(_layers, json_schema_input_type=list[Annotated[int, Field(ge=0)]]),
]


class TeacherConfig(StrictModel):
    """The model that is learned from."""

    model_id: FilePath = Field(
        description="the teacher: a Hugging Face model folder, or a model on the hub (org/name)"
    )
    revision: str | None = Field(
        None, min_length=1, description="branch, tag or commit of a model on the hub"
    )
    format: Annotated[Literal["safetensors"], Later()] = Field(
        "safetensors", description="file format of the weights"
    )


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


class OutputConfig(StrictModel):
    """Where the student and the report are written."""

    dir: FilePath = Field("distilled-model", description="folder of the student and the report")
    checkpoint_every: int = Field(500, ge=1, description="optimizer steps between checkpoints")
    keep_checkpoints: int = Field(2, ge=1, description="checkpoints to keep, beside the best one")
    format: Literal["safetensors", "gguf"] = Field(
        "safetensors",
        description="file format of the student's weights; gguf: a model.gguf for llama.cpp beside "
        "the safetensors",
    )
    quantize: str | None = Field(
        None,
        description="recipe of the GGUF file, such as q4_k_m: the student is quantized after "
        "training; float32 when absent",
    )
    pre: str | None = Field(
        None,
        min_length=1,
        description="llama.cpp's name of the pre-tokenizer, for one that is not recognised (GGUF)",
    )

    @field_validator("quantize")
    @classmethod
    def _known_recipe(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is None:
            return None
        if info.data.get("format", "gguf") != "gguf":
            raise ValueError("goes with format: gguf")
        return recipe_name(value)


def _section_of_defaults(section: type[StrictModel]) -> Any:
    return Field(default_factory=lambda: section.model_validate({}))


class DistillConfig(StrictModel):
    """A distillation: a student learns from a teacher on a dataset."""

    teacher: TeacherConfig
    student: StudentConfig
    distillation: DistillationConfig = Field(
        default_factory=lambda: DistillationConfig.model_validate({})
    )
    training: TrainingConfig = Field(default_factory=lambda: TrainingConfig.model_validate({}))
    dataset: DatasetConfig
    output: OutputConfig = _section_of_defaults(OutputConfig)
    control: bool = Field(
        False,
        description="also train the same student without the teacher, to measure what it brought",
    )

    @field_validator("output")
    @classmethod
    def _one_recipe(cls, value: OutputConfig, info: ValidationInfo) -> OutputConfig:
        training = info.data.get("training")
        recipe = training and training.quantization and training.quantization.recipe
        if recipe and value.quantize not in (None, recipe):
            raise ValueError(
                f"quantize {value.quantize} contradicts training.quantization.recipe {recipe}: the "
                "student is trained for one file"
            )
        return value

    @field_validator("output")
    @classmethod
    def _fused_file(cls, value: OutputConfig, info: ValidationInfo) -> OutputConfig:
        student = info.data.get("student")
        lora = student and student.lora
        if lora is None:
            return value
        training = info.data.get("training")
        if training and training.quantization:
            raise ValueError(
                "student.lora trains beside weights that stay: leave training.quantization out"
            )
        if value.format == "gguf" and not lora.fuse:
            raise ValueError("format gguf needs student.lora.fuse: a whole model is written")
        return value

    @property
    def recipe(self) -> str | None:
        """The recipe of the GGUF file that is written, None where none is."""
        trained = self.training.quantization
        if trained is not None and trained.recipe is not None:
            return trained.recipe
        return (self.output.quantize or "f32") if self.output.format == "gguf" else None


def resolve(
    path: str | os.PathLike[str] | None,
    *,
    teacher: str | None = None,
    student: str | None = None,
    output: str | None = None,
    control: bool | None = None,
    overrides: Sequence[tuple[str, str]] = (),
) -> DistillConfig:
    """The configuration in the file at `path`, with the command line laid over it.

    `teacher` and `student` are folders or hub ids and replace the file's model, its revision
    included; `student` replaces an architecture or a choice of layers too. `overrides` are dotted
    keys with values as text, and come last. Raises what `load_config` raises.
    """
    settings: list[Setting] = []
    if teacher is not None:
        settings.append(Setting(("teacher", "model_id"), teacher, "--teacher"))
        settings.append(Setting(("teacher", "revision"), None, "--teacher"))
    if student is not None:
        settings.append(Setting(("student",), {"model_id": student}, "--student"))
    if output is not None:
        settings.append(Setting(("output", "dir"), output, "--output"))
    if control is not None:
        settings.append(Setting(("control",), control, "--control"))
    config, _ = load_config(DistillConfig, path, overrides, settings=settings)
    return config


def as_yaml(config: DistillConfig) -> str:
    """The whole of `config`, defaults included, as the text of a file that says the same."""
    import yaml  # read_yaml has it imported by now, but only where there was a file

    data = config.model_dump(mode="json", exclude_none=True)
    return yaml.safe_dump(data, sort_keys=False, allow_unicode=True)


def config_hash(config: DistillConfig) -> str:
    """SHA-256 over what decides the student: everything but where and how often it is saved, and
    whether a control is trained beside it.

    Two configurations with the same hash train the same weights from the same files, so a run can
    be resumed under a new output folder or checkpoint interval, and given a control afterwards.
    """
    apart = {"dir", "keep_checkpoints", "checkpoint_every"}
    decides = config.model_dump(mode="json", exclude={"output": apart, "control": True})
    text = json.dumps(decides, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()
