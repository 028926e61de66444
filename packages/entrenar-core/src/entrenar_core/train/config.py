"""Configurations: strict models, the training section with its defaults, and loading from YAML.

This is the only home of training defaults. A configuration is a tree of `StrictModel` sections;
`load_config` reads a YAML file, lays command-line settings over it and reports every problem of
the result at once, each with the place it came from.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, Literal, TypeVar, get_args

from pydantic import (
    BaseModel,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from entrenar_common.errors import ConfigError
from entrenar_core.autograd.precision import BF16, WHOLE, Products
from entrenar_core.io.yaml_file import KeyPath, Located, parse_value, read_yaml
from entrenar_core.kernels import has_bf16
from entrenar_core.train.patience import EarlyStopping, Goal
from entrenar_core.train.problems import Later, Problem, as_error, problems_of, section_of
from entrenar_core.train.quantization import QuantizationConfig
from entrenar_core.train.strict import StrictModel

__all__ = [
    "Later",
    "Setting",
    "StrictModel",
    "TrainingConfig",
    "TrainingCourse",
    "json_schema",
    "load_config",
]


class TrainingCourse(StrictModel):
    """How long a model is trained, at what course of the rate, and what becomes of it meanwhile."""

    epochs: int | None = Field(
        None, ge=1, description="passes over the data; 1 when max_steps is not given either"
    )
    max_steps: int | None = Field(
        None, ge=1, description="optimizer steps to train for, instead of epochs"
    )
    gradient_accumulation: int = Field(
        1, ge=1, description="micro-batches whose gradients are added up for one optimizer step"
    )
    warmup_steps: int = Field(
        0, ge=0, description="optimizer steps in which the learning rate rises linearly from 0"
    )
    schedule: Literal["cosine", "linear", "constant"] = Field(
        "cosine", description="course of the learning rate after the warm-up"
    )
    min_learning_rate_ratio: float = Field(
        0.1, ge=0, le=1, description="learning rate at the end, as a share of the peak"
    )
    max_grad_norm: float = Field(
        1.0, gt=0, description="gradients are scaled down to this global norm when they exceed it"
    )
    mixed_precision: Literal["fp32", "bf16", "fp16", "auto"] = Field(
        "fp32",
        description="bf16: steps multiply matrices in bfloat16 and sum in float32, and frozen "
        "weights, such as a teacher's, are kept in bfloat16; fp16: frozen weights are kept in "
        "float16, and arithmetic is float32; auto: bf16 where the processor has instructions for "
        "it, else fp32. Trained weights, gradients and moments are float32",
    )
    checkpointing: bool = Field(
        False,
        description="keep only the inputs of the model's blocks, and compute what is inside again "
        "on the way back: less memory, a third more time, the same gradients but for rounding",
    )
    seed: int = Field(
        0, ge=0, lt=2**63, description="decides initialisation, data order and sampling"
    )
    evaluate_every: int | None = Field(
        None, ge=1, description="optimizer steps between evaluations; only at the end when absent"
    )
    metric: str = Field(
        "held_out_loss",
        min_length=1,
        description="figure of an evaluation by which checkpoints are compared",
    )
    metric_goal: Goal = Field("lowest", description="which values of metric are better")
    early_stopping: EarlyStopping | None = Field(
        None,
        description="ends training when metric gets no better; needs evaluate_every",
    )
    average_decay: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="the model gets an exponential moving average of its weights over the steps, "
        "with this decay; its last weights when absent",
    )

    @property
    def frozen_dtype(self) -> str:
        """What `models.load` is told for weights that are not trained."""
        return {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}[self.mixed_precision]

    @property
    def products(self) -> Products:
        """How steps multiply matrices."""
        return BF16 if self.mixed_precision == "bf16" else WHOLE

    @field_validator("mixed_precision")
    @classmethod
    def _as_the_processor_has_it(cls, value: str) -> str:
        # at once, so that what is written down says how it was computed
        if value == "auto":
            return "bf16" if has_bf16() else "fp32"
        return value

    @model_validator(mode="before")
    @classmethod
    def _one_epoch_unless_told(cls, data: Any) -> Any:
        if isinstance(data, dict) and data.get("epochs") is None and data.get("max_steps") is None:
            return {**data, "epochs": 1}
        return data

    @field_validator("early_stopping")
    @classmethod
    def _evaluates(cls, value: Any, info: ValidationInfo) -> Any:
        if value is not None and info.data.get("evaluate_every", 1) is None:
            raise ValueError("needs evaluate_every: there is nothing to compare otherwise")
        return value

    @field_validator("max_steps")
    @classmethod
    def _one_length(cls, value: int | None, info: ValidationInfo) -> int | None:
        if value is not None and info.data.get("epochs") is not None:
            raise ValueError("cannot be given together with epochs; set one of them to null")
        return value


class TrainingConfig(TrainingCourse):
    """How a model is trained: length, batches, AdamW and the learning-rate schedule."""

    batch_size: int = Field(
        8,
        ge=1,
        description="sequences in a micro-batch; an optimizer step sees gradient_accumulation "
        "times as many",
    )
    learning_rate: float = Field(1e-3, gt=0, description="peak learning rate, after the warm-up")
    weight_decay: float = Field(0.01, ge=0, description="AdamW's decoupled weight decay")
    beta1: float = Field(0.9, ge=0, lt=1, description="decay of AdamW's first moment")
    beta2: float = Field(0.95, ge=0, lt=1, description="decay of AdamW's second moment")
    epsilon: float = Field(1e-8, gt=0, description="added to the root of AdamW's second moment")
    quantization: QuantizationConfig | None = Field(
        None,
        description="training on the numbers that weights will be stored as; not done when absent",
    )

    @field_validator("quantization")
    @classmethod
    def _of_last_weights(cls, value: Any, info: ValidationInfo) -> Any:
        for name in ("average_decay", "early_stopping"):
            if value is not None and info.data.get(name) is not None:
                raise ValueError(f"cannot be given together with {name}: what is stored is trained")
        return value


@dataclass(frozen=True)
class Setting:
    """A value laid over the file: the path of its key, and what messages call its origin."""

    path: tuple[str, ...]
    value: Any
    origin: str


Model = TypeVar("Model", bound=StrictModel)


def load_config(
    model: type[Model],
    path: str | os.PathLike[str] | None,
    overrides: Sequence[tuple[str, str]] = (),
    *,
    settings: Sequence[Setting] = (),
) -> tuple[Model, Located]:
    """The configuration in the YAML file at `path`, with settings and then overrides laid over it.

    Without a path the configuration is made of `settings` and `overrides` alone. An override is a
    dotted key with its value as text (`("training.epochs", "3")`), read as a YAML scalar or list.
    Returns the configuration and the merged data, which knows where each value came from.

    Raises ConfigError naming every problem, UnsupportedError when all of them are that a coming
    version is needed, and what `read_yaml` raises.
    """
    located = read_yaml(path) if path is not None else Located("the configuration", None)
    parsed, problems = _parse(overrides)
    located, misplaced = _lay_over(located, [*settings, *parsed])
    located = replace(located, data=_fill_empty_sections(model, located.data))
    problems += misplaced
    try:
        config = model.model_validate(located.data)
    except ValidationError as error:
        problems += problems_of(error, model, located)
        raise as_error(located, problems) from error
    if problems:
        raise as_error(located, problems)
    return config, located


def json_schema(model: type[StrictModel]) -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of a configuration: what editors check a file against.

    >>> json_schema(TrainingConfig)["properties"]["batch_size"]["default"]
    8
    """
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **model.model_json_schema(),
    }


def _parse(overrides: Sequence[tuple[str, str]]) -> tuple[list[Setting], list[Problem]]:
    settings: list[Setting] = []
    problems: list[Problem] = []
    for key, text in overrides:
        path = tuple(key.strip().split("."))
        origin = f"--set {key.strip()}"
        if not all(path):
            problems.append(Problem((), origin, "not a key: write section.key=value"))
            continue
        try:
            settings.append(Setting(path, parse_value(text), origin))
        except ConfigError as error:
            problems.append(Problem(path, origin, error.message, error.hint))
    return settings, problems


def _lay_over(located: Located, settings: Sequence[Setting]) -> tuple[Located, list[Problem]]:
    """`located` with every setting put in its place; settings that have none are problems."""
    problems: list[Problem] = []
    for setting in settings:
        try:
            path = _places(located.data, setting.path)
        except LookupError as error:
            problems.append(Problem(setting.path, setting.origin, str(error)))
            continue
        data = _put(located.data, path, setting.value)
        depth = len(path)
        lines = {key: n for key, n in located.lines.items() if key[:depth] != path}
        origins: dict[KeyPath, str] = {**located.origins, path: setting.origin}
        located = Located(located.name, data, MappingProxyType(lines), MappingProxyType(origins))
    return located, problems


def _places(data: Any, path: tuple[str, ...]) -> KeyPath:
    """`path` with the numbers of items of lists as numbers; LookupError where there is no such
    place."""
    found: list[str | int] = []
    for part in path:
        if isinstance(data, list):
            if not (part.isdecimal() and int(part) < len(data)):
                # str(error) of a KeyError would be quoted
                raise LookupError(f"is in a list of {len(data)}: {_numbered(found, data, part)}")
            found.append(int(part))
            data = data[int(part)]
        elif isinstance(data, dict | None):
            found.append(part)
            data = (data or {}).get(part)
        else:
            raise LookupError("there is no such key: a part of the path is not a section")
    return tuple(found)


def _numbered(found: Sequence[str | int], items: Sequence[Any], part: str) -> str:
    name = ".".join(map(str, found))
    if part.isdecimal():
        return f"the items of {name} are 0 to {len(items) - 1}"
    return f"say which of them, as in {name}.0.{part}"


def _put(data: Any, path: KeyPath, value: Any) -> Any:
    """A copy of `data` with `value` at `path`; sections that are absent or empty are made."""
    if not path:
        return value
    first, rest = path[0], path[1:]
    if isinstance(first, int):
        return [_put(each, rest, value) if n == first else each for n, each in enumerate(data)]
    section = data or {}
    return {**section, first: _put(section.get(first), rest, value)}


def _fill_empty_sections(model: type[BaseModel], data: Any) -> Any:
    """A section whose keys are all commented out is null in YAML, and meant as empty; one that may
    be absent is, where it is null."""
    if not isinstance(data, dict | None):
        return data
    filled = dict(data or {})
    for key, value in filled.items():
        section = section_of(model, key)
        if section is not None and not (value is None and _may_be_absent(model, key)):
            filled[key] = _fill_empty_sections(section, value)
    return filled


def _may_be_absent(model: type[BaseModel], key: str) -> bool:
    return type(None) in get_args(model.model_fields[key].annotation)
