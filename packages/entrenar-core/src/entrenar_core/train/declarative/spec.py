"""The whole configuration of a training: `TrainSpec`, from a YAML file and back.

Paths are relative to the current directory; a leading `~` is the home folder.
"""

import hashlib
import json
import os
from collections.abc import Sequence
from typing import Any

from pydantic import Field, ValidationInfo, field_validator, model_validator

from entrenar_core.train.adapter import LoraSection
from entrenar_core.train.config import Setting, TrainingConfig, load_config
from entrenar_core.train.declarative.data_section import DataSection
from entrenar_core.train.declarative.merge_section import MergeSection
from entrenar_core.train.declarative.model_section import ModelSection
from entrenar_core.train.declarative.optimizer_section import OptimizerSection
from entrenar_core.train.declarative.quantize_section import QuantizeSection
from entrenar_core.train.declarative.tasks import CAUSAL_LM, TaskName
from entrenar_core.train.declarative.training_section import TrainingSection
from entrenar_core.train.declarative.unfit import unfit
from entrenar_core.train.observe import ObserveSection
from entrenar_core.train.output_section import OutputFolder
from entrenar_core.train.problems import elsewhere
from entrenar_core.train.strict import StrictModel

__all__ = ["TrainSpec", "as_yaml", "resolve", "spec_hash"]


_CALLED = {"eps": "epsilon"}
"""Parameters of optimizers that a `TrainingConfig` has by another name."""


def _of_defaults(section: type[StrictModel]) -> Any:
    return Field(default_factory=lambda: section.model_validate({}))


class TrainSpec(StrictModel):
    """A training: a model, data, and what is done with both."""

    model: ModelSection
    data: DataSection
    task: TaskName | None = Field(
        None,
        validate_default=True,
        description="what the model is for; found by the data when absent: text alone is "
        "causal-lm, with a label of few values sequence-classification, with a number regression",
    )
    optimizer: OptimizerSection = _of_defaults(OptimizerSection)
    training: TrainingSection = _of_defaults(TrainingSection)
    lora: LoraSection | None = Field(
        None,
        validate_default=True,
        description="train an adapter instead of the weights; not done when absent",
    )
    quantize: QuantizeSection | None = Field(
        None,
        description="train on the numbers that weights will be stored as; not done when absent",
    )
    merge: MergeSection | None = Field(
        None, description="merge the trained model with others; not done when absent"
    )
    output: OutputFolder = _of_defaults(OutputFolder)
    observe: ObserveSection = _of_defaults(ObserveSection)

    @model_validator(mode="before")
    @classmethod
    def _layers_are_targets(cls, data: Any) -> Any:
        """`model.layers` is the default of `lora.target_modules`."""
        lora, model = (_section(data, name) for name in ("lora", "model"))
        layers = model.get("layers")
        if not isinstance(layers, list) or not isinstance(data.get("lora"), dict):
            return data
        if lora.get("target_modules") is not None:
            return data
        return {**data, "lora": {**lora, "target_modules": layers}}

    @field_validator("task")
    @classmethod
    def _can_be_known(cls, value: str | None, info: ValidationInfo) -> str | None:
        data = info.data.get("data")
        if value is None and data and data.label_field and not data.auto_infer_types:
            raise ValueError("is missing, and data.auto_infer_types is off: say what it is")
        if value == CAUSAL_LM and data and data.label_field:
            raise elsewhere(f"goes with another task than {CAUSAL_LM}", "data", "label_field")
        return value

    @field_validator("training")
    @classmethod
    def _of_the_task(cls, value: TrainingSection, info: ValidationInfo) -> TrainingSection:
        task, data = info.data.get("task"), info.data.get("data")
        problem = unfit(task, value, packing=data is None or data.packing) if task else None
        if problem is not None:
            raise elsewhere(problem.text, *problem.path)
        return value

    @field_validator("lora")
    @classmethod
    def _adapts_a_model(cls, value: LoraSection | None, info: ValidationInfo) -> Any:
        value = value if value is not None and value.enabled else None
        model, training = info.data.get("model"), info.data.get("training")
        if value is None:
            if model and model.layers is not None:
                text = "goes with lora: they are the modules that an adapter may change"
                raise elsewhere(text, "model", "layers")
            if training and training.mixed_precision == "fp16":
                text = "goes with lora: all weights are trained otherwise, and these are float32"
                raise elsewhere(text, "training", "mixed_precision")
            return None
        if model and model.path is None:
            raise ValueError("adapts a model that has learned: give model.path, not model.config")
        if model and model.layers is not None and isinstance(value.target_modules, tuple):
            outside = [name for name in value.target_modules if name not in model.layers]
            if outside:
                raise elsewhere(
                    f"{outside[0]} is not among model.layers: {', '.join(model.layers)}",
                    "lora",
                    "target_modules",
                )
        return value

    @field_validator("quantize")
    @classmethod
    def _of_fused_weights(cls, value: QuantizeSection | None, info: ValidationInfo) -> Any:
        lora = info.data.get("lora")
        if value is not None and lora is not None and (problem := lora.not_storable):
            raise ValueError(f"with lora {problem}")
        return value

    @field_validator("quantize")
    @classmethod
    def _of_last_weights(cls, value: QuantizeSection | None, info: ValidationInfo) -> Any:
        training = info.data.get("training")
        for name in ("average_decay", "early_stopping"):
            if value is not None and training and getattr(training, name) is not None:
                raise ValueError(
                    f"cannot be given together with training.{name}: what is stored is trained"
                )
        return value

    @field_validator("merge")
    @classmethod
    def _a_whole_model(cls, value: MergeSection | None, info: ValidationInfo) -> Any:
        lora, task = info.data.get("lora"), info.data.get("task")
        if value is not None and lora is not None and not lora.fuse:
            raise ValueError("needs lora.fuse: whole models are merged")
        if value is not None and task not in (None, CAUSAL_LM):
            raise ValueError(f"goes with task {CAUSAL_LM}: models with heads of their own differ")
        return value

    def training_config(self) -> TrainingConfig:
        """What `TrainingLoop` is told."""
        known = TrainingConfig.model_fields
        given = {_CALLED.get(key, key): value for key, value in self.optimizer.given.items()}
        quantization = None if self.quantize is None else self.quantize.settings()
        data = {
            **self.training.course(),
            "batch_size": self.data.batch_size,
            "learning_rate": self.optimizer.lr,
            "quantization": quantization,
            **{key: value for key, value in given.items() if key in known},
        }
        return TrainingConfig.model_validate(data)

    @property
    def recipe(self) -> str | None:
        """The recipe of the GGUF file that is written, None where none is."""
        return None if self.quantize is None else self.quantize.recipe


def resolve(
    path: str | os.PathLike[str] | None,
    overrides: Sequence[tuple[str, str]] = (),
    *,
    output: str | None = None,
) -> TrainSpec:
    """The configuration in the YAML file at `path`, with `output` and then `overrides`, dotted keys
    with their values as text, laid over it. Raises what `load_config` raises."""
    settings = [] if output is None else [Setting(("output", "dir"), output, "--output")]
    spec, _ = load_config(TrainSpec, path, overrides, settings=settings)
    return spec


def as_yaml(spec: TrainSpec) -> str:
    """The whole of `spec`, defaults included, as the text of a file that says the same."""
    import yaml  # read_yaml has it imported by now, but only where there was a file

    data = spec.model_dump(mode="json", exclude_none=True)
    return yaml.safe_dump(data, sort_keys=False, allow_unicode=True)


def spec_hash(spec: TrainSpec) -> str:
    """SHA-256 over what decides the result: everything but where and how often it is saved, and
    what watches."""
    decides = spec.model_dump(mode="json", exclude={"output", "observe"})
    text = json.dumps(decides, sort_keys=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _section(data: Any, name: str) -> dict[str, Any]:
    found = data.get(name) if isinstance(data, dict) else None
    return found if isinstance(found, dict) else {}
