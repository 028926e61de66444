"""The modules of a model that can have adapters, and the weights that are trained whole."""

from dataclasses import dataclass
from typing import Any

from entrenar_common.errors import ConfigError
from entrenar_core.autograd import Parameter
from entrenar_core.lora.config import LoraConfig
from entrenar_core.lora.layer import Adapters
from entrenar_core.lora.targets import is_saved, targets
from entrenar_core.models.encoder_heads import MaskedLM, SequenceClassification
from entrenar_core.models.network import LanguageModel, SequenceClassifier
from entrenar_core.nn import Embedding, Module, Projection, modules


def adaptable(model: Any) -> dict[str, Projection | Embedding]:
    """The projections and tables of vectors of `model`, by name."""
    return {
        path: module
        for path, module in modules(model)
        if isinstance(module, Projection | Embedding)
    }


def chosen(model: Any, config: LoraConfig) -> dict[str, Projection | Embedding]:
    """Those that `config` means. Raises ConfigError where it means none or a name is wrong."""
    found = adaptable(model)
    kinds = {name: isinstance(module, Projection) for name, module in found.items()}
    names = targets(config, kinds, outputs(model, found))
    return {name: found[name] for name in names}


def outputs(model: Any, found: dict[str, Projection | Embedding]) -> set[str]:
    """The projections that make what the model is for, which "all-linear" leaves out."""
    head = getattr(model, "output_weight", None)
    if head is not None:
        return {n for n, m in found.items() if isinstance(m, Projection) and m.weight is head}
    return {n for n in found if model.is_of_head(f"{n}.weight")}


def task_of(model: Any) -> str | None:
    """What PEFT calls the use of `model`; None where it has no name for it."""
    if isinstance(model, LanguageModel):
        return "CAUSAL_LM"
    if isinstance(model, SequenceClassifier | SequenceClassification):
        return "SEQ_CLS"
    return None if isinstance(model, MaskedLM) else "FEATURE_EXTRACTION"


@dataclass
class Whole:
    """A parameter that an adapter trains whole: where it is, the model's own, and the adapter's."""

    owner: Module
    attribute: str
    original: Parameter
    own: Parameter

    def put(self) -> None:
        """Let the model compute with the adapter's."""
        setattr(self.owner, self.attribute, self.own)

    def take_back(self) -> None:
        """Let the model compute with its own."""
        setattr(self.owner, self.attribute, self.original)


def wholes(model: Any, config: LoraConfig, adapted: set[str]) -> dict[str, Whole]:
    """The parameters that `config` trains whole, copied, by name: those of `modules_to_save`, and
    the biases. `adapted` has the names of the modules with updates.

    Raises ConfigError for a module that is not there.
    """
    found: dict[str, Whole] = {}
    for name in config.modules_to_save:
        if name not in saved_names(model, config):
            raise ConfigError(
                f"LoRA: no module of this model is {name!r} of modules_to_save",
                hint="names as in the checkpoint, such as lm_head or embed_tokens",
            )
    for path, module in modules(model):
        inside = any(is_saved(config, part) for part in _prefixes(path))
        for attribute, value in vars(module).items():
            if not isinstance(value, Parameter) or isinstance(module, Adapters):
                continue
            bias = attribute.endswith("bias") and (
                config.bias == "all" or (config.bias == "lora_only" and path in adapted)
            )
            if inside or bias:
                own = Parameter(_copy(value, f"{path}.{attribute}"))
                found[f"{path}.{attribute}"] = Whole(module, attribute, value, own)
    return found


def saved_names(model: Any, config: LoraConfig) -> tuple[str, ...]:
    """Those of `modules_to_save` that are modules of `model`."""
    paths = [path for path, _ in modules(model)]
    return tuple(n for n in config.modules_to_save if any(p.endswith(n) for p in paths))


def _copy(parameter: Parameter, name: str) -> Any:
    if parameter.dtype.name not in ("float32", "float64"):
        raise ConfigError(
            f"LoRA: {name} is held as {parameter.dtype}, and is to be trained whole",
            hint="load the model in float32, or leave the module out of modules_to_save",
        )
    return parameter.data.copy()


def _prefixes(path: str) -> list[str]:
    parts = path.split(".")
    return [".".join(parts[: end + 1]) for end in range(len(parts))]
