"""Finding an architecture, and reading and writing its Hugging Face folder."""

import dataclasses
from collections.abc import Iterable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from entrenar_common.errors import ConfigError, UnsupportedError
from entrenar_common.text import escape_controls
from entrenar_core.io import files
from entrenar_core.io.safetensors import SafetensorsFolder, write_folder
from entrenar_core.nn.init import initialise

ARCHITECTURES = {"llama": ".llama"}
"""`model_type` of a config → module of this package, whose `Model` it is."""

TRAINABLE = ("float32", "float64")
"""What `dtype` may be: float32 is for work, float64 for checking."""

SHOWN = 10
"""At most so many tensors are listed in an error."""


def read_config(folder: Path) -> Any:
    """The config of the model in `folder`, as the dataclass of its architecture.

    Raises NotFoundError without a config.json, UnsupportedError for an unknown architecture, and
    ConfigError or FormatError for contents that are wrong.
    """
    raw = files.read_json(folder / "config.json")
    if not isinstance(raw, dict):
        raise ConfigError(
            f"{folder / 'config.json'}: not a JSON object", hint="give a model folder"
        )
    return _model_class(raw).Config.from_hf(raw)


def from_config(raw: Mapping[str, Any], *, seed: int, dtype: str = "float32") -> Any:
    """A model with fresh weights from the keys of a Hugging Face config; `model_type` defaults to
    llama. The weights are a pure function of `seed` and the tensors' names."""
    raw = {"model_type": "llama", **raw}
    kind = _model_class(raw)
    model = kind(kind.Config.from_hf(raw), dtype=_checked(dtype))
    initialise(model, seed, model.config.initializer_range)
    return model


def load(path: str | Path, *, dtype: str = "float32") -> Any:
    """The model in a Hugging Face folder, its weights converted to `dtype` (float32 or float64).

    The model takes ids (batch, time) and returns logits (batch, time, vocabulary) as a Tensor:

        model = load("folder")
        logits = model(np.array([[1, 2, 3]])).numpy()

    Raises ConfigError, before anything large is allocated, when the tensors and config.json
    contradict each other.
    """
    folder = Path(path)
    config = read_config(folder)
    model = _model_class({"model_type": config.model_type})(config, dtype=_checked(dtype))
    parameters = model.named_parameters()
    with SafetensorsFolder(folder) as weights:
        names = {name: name for name in weights.names()}
        names = model.sanitize(names)
        _check_shapes(folder, parameters, names, weights, config)
        for name, parameter in parameters.items():
            parameter.data = _converted(folder, name, weights.read(name), dtype)
    return model


def with_layers(model: Any, layers: Iterable[int]) -> Any:
    """A copy of `model` with only the given layers, in that order, everything else kept.

    Raises ConfigError for a layer that the model has not.
    """
    layers = tuple(layers)
    count = model.config.num_hidden_layers
    wrong = [index for index in layers if not 0 <= index < count]
    if wrong or not layers:
        raise ConfigError(
            f"the model has no layer {wrong[0]}" if wrong else "no layers are named",
            hint=f"its layers are 0 to {count - 1}",
        )
    config = dataclasses.replace(model.config, num_hidden_layers=len(layers))
    source = model.named_parameters()
    copy = type(model)(config, dtype=model.lm_head.weight.dtype.name)
    for name, parameter in copy.named_parameters().items():
        parts = name.split(".")
        if parts[:2] == ["model", "layers"]:
            parts[2] = str(layers[int(parts[2])])
        parameter.data = source[".".join(parts)].data.copy()
    return copy


def save(model: Any, folder: Path, *, max_shard_bytes: int = 5 * 10**9) -> None:
    """Write config.json, generation_config.json and float32 safetensors to `folder`."""
    files.make_folder(folder)
    tensors = {name: parameter.data for name, parameter in model.named_parameters().items()}
    write_folder(folder, tensors, max_shard_bytes=max_shard_bytes, metadata={"format": "pt"})
    config = model.config.to_hf()
    files.write_json(folder / "config.json", config)
    special = ("bos_token_id", "eos_token_id", "pad_token_id")
    generation = {key: config[key] for key in special if config[key] is not None}
    files.write_json(folder / "generation_config.json", generation)


def _model_class(raw: Mapping[str, Any]) -> Any:
    kind = raw.get("model_type")
    if not isinstance(kind, str) or kind not in ARCHITECTURES:
        shown = escape_controls(str(kind)) if kind is not None else "missing"
        raise UnsupportedError(
            f"config.json: model_type {shown} is not an architecture this version knows",
            hint=f"known: {', '.join(sorted(ARCHITECTURES))}",
        )
    return import_module(ARCHITECTURES[kind], __package__).Model


def _checked(dtype: str) -> str:
    if dtype not in TRAINABLE:
        raise UnsupportedError(
            f"models cannot be held in {dtype}", hint=f"use one of {', '.join(TRAINABLE)}"
        )
    return dtype


def _converted(folder: Path, name: str, array: np.ndarray, dtype: str) -> np.ndarray:
    if array.dtype.kind not in "fV" or array.dtype.itemsize < 2:
        raise UnsupportedError(
            f"{folder}: {name} is stored as {array.dtype}, which cannot be computed with",
            hint="give a checkpoint in float32, float16, bfloat16 or float64",
        )
    return np.ascontiguousarray(array.astype(dtype))


def _check_shapes(
    folder: Path,
    parameters: Mapping[str, Any],
    names: Mapping[str, str],
    weights: SafetensorsFolder,
    config: Any,
) -> None:
    problems = [
        f"{name}: missing, wanted {tuple(parameter.shape)}"
        for name, parameter in parameters.items()
        if name not in names
    ]
    for name in names:
        shape = tuple(weights.info(name).shape)
        if name in parameters:
            if shape != tuple(parameters[name].shape):
                problems.append(f"{name}: wanted {tuple(parameters[name].shape)}, found {shape}")
        elif not _is_tied_copy(name, names, weights, config):
            problems.append(f"{escape_controls(name)}: not part of this architecture")
    if problems:
        raise ConfigError(
            f"{folder}: the weights contradict config.json in {len(problems)} tensors",
            details=_shortened(problems),
            hint="config.json and the weights must come from the same model",
        )


def _is_tied_copy(name: str, names: Any, weights: SafetensorsFolder, config: Any) -> bool:
    """Whether `name` is a tied head written out once more, equal to the embedding."""
    tied = "model.embed_tokens.weight"
    if name != "lm_head.weight" or not config.tie_word_embeddings or tied not in names:
        return False
    return np.array_equal(weights.read(name), weights.read(tied))


def _shortened(lines: Iterable[str]) -> list[str]:
    lines = list(lines)
    more = [f"and {len(lines) - SHOWN} more"] if len(lines) > SHOWN else []
    return lines[:SHOWN] + more
