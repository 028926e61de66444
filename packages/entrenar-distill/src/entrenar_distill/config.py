"""The configuration of a distillation: what `distill.yaml` may say, and its fingerprint.

Paths are relative to the current directory; a leading `~` is the home folder.
"""

import hashlib
import json
import os
from collections.abc import Sequence
from typing import Any, Literal

from pydantic import Field, ValidationInfo, field_validator

from entrenar_core.train.adapter import LoraSection
from entrenar_core.train.config import Setting, StrictModel, TrainingConfig, load_config
from entrenar_core.train.observe import ObserveSection
from entrenar_core.train.output_section import OutputFolder
from entrenar_core.train.paths import FilePath
from entrenar_core.train.quantization import recipe_name
from entrenar_distill.dataset_section import DatasetConfig
from entrenar_distill.loss import DistillationConfig
from entrenar_distill.student_section import StudentConfig
from entrenar_distill.task_names import (
    CAUSAL_LM,
    SENTENCE_EMBEDDING,
    SEQUENCE_CLASSIFICATION,
    UNUSED,
    TaskName,
    check_keys,
)
from entrenar_distill.teacher_section import TeacherConfig, Teachers

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


class OutputConfig(OutputFolder):
    """Where the student and the report are written."""

    dir: FilePath = Field("distilled-model", description="folder of the student and the report")
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


def _teachers(info: ValidationInfo) -> tuple[TeacherConfig, ...]:
    """Those that are given, none where they are wrong."""
    found = info.data.get("teacher", ())
    return found if isinstance(found, tuple) else (found,)


def _check_stored_adapter(lora: LoraSection) -> None:
    """What is stored of a weight and its adapter is one weight: ValueError for what that cannot be
    with."""
    if not lora.fuse:
        raise ValueError(
            "training.quantization needs student.lora.fuse: what is stored has the adapter in it"
        )
    if lora.dropout:
        raise ValueError(
            f"training.quantization does not go with student.lora.dropout {lora.dropout:g}: what "
            "is stored has no input of A apart from its own"
        )


class DistillConfig(StrictModel):
    """A distillation: a student learns from a teacher on a dataset."""

    task: TaskName = Field(
        CAUSAL_LM,
        description="what the models are for: causal-lm, text that goes on; masked-lm, tokens "
        "behind a mask; sentence-embedding, a vector for each text; sequence-classification, a "
        "class for each text",
    )
    teacher: Teachers = Field(description="the model that is learned from, or a list of several")
    student: StudentConfig
    distillation: DistillationConfig = Field(
        default_factory=lambda: DistillationConfig.model_validate({})
    )
    training: TrainingConfig = Field(default_factory=lambda: TrainingConfig.model_validate({}))
    dataset: DatasetConfig
    output: OutputConfig = _section_of_defaults(OutputConfig)
    observe: ObserveSection = _section_of_defaults(ObserveSection)
    control: bool = Field(
        False,
        description="also train the same student without the teacher, to measure what it brought",
    )

    @field_validator("distillation", "dataset")
    @classmethod
    def _of_the_task(cls, value: StrictModel, info: ValidationInfo) -> StrictModel:
        if "task" in info.data:
            check_keys(info.data["task"], str(info.field_name), value)
        return value

    @field_validator("control")
    @classmethod
    def _has_labels(cls, value: bool, info: ValidationInfo) -> bool:
        if not value or "task" not in info.data:
            return value
        task, dataset = info.data["task"], info.data.get("dataset")
        if task == SENTENCE_EMBEDDING:
            raise ValueError("sentence-embedding has none: without the teacher nothing is learned")
        if task == SEQUENCE_CLASSIFICATION and dataset and dataset.label_field is None:
            raise ValueError("needs dataset.label_field: a control learns from labels alone")
        return value

    @field_validator("dataset")
    @classmethod
    def _labels_where_they_count(cls, value: DatasetConfig, info: ValidationInfo) -> DatasetConfig:
        loss = info.data.get("distillation")
        classes = info.data.get("task") == SEQUENCE_CLASSIFICATION
        if classes and loss and loss.alpha < 1 and value.label_field is None:
            raise ValueError(
                f"label_field is missing: with distillation.alpha {loss.alpha:g} labels count too "
                "(with alpha 1 none are needed)"
            )
        return value

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
            _check_stored_adapter(lora)
        if value.format == "gguf" and not lora.fuse:
            raise ValueError("format gguf needs student.lora.fuse: a whole model is written")
        return value

    def pinned(self, revision: str | None) -> "DistillConfig":
        """The same on the dataset's commit `revision`; None is for files, which have none."""
        if revision is None:
            return self
        dataset = self.dataset.model_copy(update={"revision": revision})
        return self.model_copy(update={"dataset": dataset})

    @field_validator("distillation")
    @classmethod
    def _one_inside(cls, value: DistillationConfig, info: ValidationInfo) -> DistillationConfig:
        teachers = _teachers(info)
        for name in ("progressive", "attention"):
            if len(teachers) > 1 and getattr(value, name) is not None:
                raise ValueError(
                    f"{name} compares with the inside of one teacher, and there are {len(teachers)}"
                )
        return value

    @field_validator("dataset")
    @classmethod
    def _routes_of_a_field(cls, value: DatasetConfig, info: ValidationInfo) -> DatasetConfig:
        routed = any(teacher.route for teacher in _teachers(info))
        if routed and value.route_field is None:
            raise ValueError("teachers have routes: route_field must name the field they go by")
        if value.route_field is not None and "teacher" in info.data and not routed:
            raise ValueError("route_field goes with teachers that have a route")
        return value

    @property
    def teachers(self) -> tuple[TeacherConfig, ...]:
        """The teacher, or all of them."""
        return self.teacher if isinstance(self.teacher, tuple) else (self.teacher,)

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

    `teacher` and `student` are folders, files or hub ids and replace the file's model, its revision
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

    unused: Any = UNUSED[config.task]
    data = config.model_dump(mode="json", exclude_none=True, exclude=unused)
    return yaml.safe_dump(data, sort_keys=False, allow_unicode=True)


def config_hash(config: DistillConfig) -> str:
    """SHA-256 over what decides the student: everything but where and how often it is saved, where
    its figures are shown, whether a control is trained beside it, and how documents of a dataset on
    the hub are come by.

    Two configurations with the same hash train the same weights from the same documents, so a run
    can be resumed under a new output folder or checkpoint interval, and given a control afterwards.
    """
    apart = {"dir", "keep_checkpoints", "checkpoint_every"}
    fetched = {"revision", "streaming"}  # the documents themselves are compared beside the config
    decides = config.model_dump(
        mode="json",
        exclude={"output": apart, "observe": True, "control": True, "dataset": fetched},
    )
    text = json.dumps(decides, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()
