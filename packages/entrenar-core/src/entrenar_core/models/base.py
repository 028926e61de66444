"""Finding an architecture, and reading and writing its Hugging Face folder."""

import math
from collections.abc import Iterable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from entrenar_common.errors import ConfigError, UnsupportedError
from entrenar_common.text import escape_controls
from entrenar_core.io import files
from entrenar_core.io.safetensors import SafetensorsFolder, write_folder
from entrenar_core.models.quantized import OPENERS, without_quantization
from entrenar_core.nn import shapes_only
from entrenar_core.nn.init import initialise

ARCHITECTURES = {
    "bert": ".bert",
    "distilbert": ".distilbert",
    "gpt2": ".gpt2",
    "llama": ".llama",
    "mistral": ".mistral",
    "qwen2": ".qwen2",
    "qwen3": ".qwen3",
    "roberta": ".roberta",
}
"""`model_type` of a config → module of this package. Its `HEADS` are classes by the name of what
they are for, of which the first is the one that a folder without `architectures` gets."""

TRAINABLE = ("float32", "float64")
"""What `dtype` may be: float32 is for work, float64 for checking."""

HELD = {"bfloat16": np.dtype(ml_dtypes.bfloat16), "float16": np.dtype(np.float16)}
"""What `dtype` may be besides where a model is loaded to be used and not trained."""

SHOWN = 10
"""At most so many tensors are listed in an error."""


def read_config(folder: Path) -> Any:
    """The config of the model in `folder`, as the dataclass of its architecture.

    Raises NotFoundError without a config.json, UnsupportedError for an unknown architecture, and
    ConfigError or FormatError for contents that are wrong.
    """
    raw, _ = without_quantization(_read_raw(folder))
    return _model_class(raw, None).Config.from_hf(raw)


def from_config(
    raw: Mapping[str, Any], *, seed: int, head: str | None = None, dtype: str = "float32"
) -> Any:
    """A model with fresh weights from the keys of a Hugging Face config; `model_type` defaults to
    llama, and `head` to what `architectures` says. The weights are a pure function of `seed` and
    the tensors' names."""
    raw = {"model_type": "llama", **raw}
    kind = _model_class(raw, head)
    model = kind(kind.Config.from_hf(raw), dtype=_checked(dtype))
    initialise(model, seed, model.initial_std)
    model.first_weights()
    return model


def parameter_shapes(
    raw: Mapping[str, Any], *, head: str | None = None
) -> dict[str, tuple[int, ...]]:
    """Name and shape of every parameter of a model with the given config, tied ones once; nothing
    of the model's size is allocated.

    >>> from entrenar_core.models import reference_config
    >>> shapes = parameter_shapes(reference_config("llama-7b"))
    >>> sum(math.prod(shape) for shape in shapes.values())
    6738415616
    """
    raw, _ = without_quantization({"model_type": "llama", **raw})
    kind = _model_class(raw, head)
    with shapes_only():
        model = kind(kind.Config.from_hf(raw))
    return {name: parameter.shape for name, parameter in model.named_parameters().items()}


def parameter_count(raw: Mapping[str, Any], *, head: str | None = None) -> int:
    """How many numbers a model with the given config has, tied ones counted once."""
    return sum(math.prod(shape) for shape in parameter_shapes(raw, head=head).values())


def load(
    path: str | Path,
    *,
    head: str | None = None,
    initialise_head_seed: int | None = None,
    dtype: str = "float32",
) -> Any:
    """The model in a Hugging Face folder, its weights converted to `dtype` (float32 or float64).

    With "bfloat16" or "float16" its matrices are kept in these 16 bits and the model is frozen.
    They are widened, a part at a time, where they are used: all arithmetic is in float32.
    Weights that bitsandbytes has stored in 4 bits (NF4) are read as the numbers they stand for.

    A language model takes ids (batch, time) and returns logits (batch, time, vocabulary) as a
    Tensor:

        model = load("folder")
        logits = model(np.array([[1, 2, 3]])).numpy()

    `head` names what the model is for ("causal-lm", "masked-lm", "sequence-classification",
    "embedding", as far as the architecture has them); by default it is what `architectures` in
    config.json says. A head that the checkpoint has no weights for, as before a fine-tuning, is
    drawn with `initialise_head_seed`, and its parameters are then named by `model.initialised`;
    without that seed it is an error.

    Raises ConfigError, before anything large is allocated, when the tensors and config.json
    contradict each other.
    """
    folder = Path(path)
    raw, method = without_quantization(_read_raw(folder))
    kind = _model_class(raw, head)
    wide = "float32" if dtype in HELD else _checked(dtype)
    with shapes_only():
        model = kind(kind.Config.from_hf(raw), dtype=wide)
    with OPENERS[method](folder) as weights:
        names = kind.sanitize(weights.names())
        model.prepare(folder, names)
        parameters = model.named_parameters()
        names = _untied(names, model.tied_names(), weights)
        fresh = ()
        if head is not None and initialise_head_seed is not None:
            fresh = tuple(n for n in parameters if n not in names and model.is_of_head(n))
        _check_shapes(folder, parameters, names, fresh, weights)
        for name, parameter in parameters.items():
            if name in fresh:
                parameter.data = np.empty(parameter.shape, wide)
            else:
                kept = HELD.get(dtype, wide) if len(parameter.shape) >= 2 else wide
                parameter.data = _converted(folder, name, weights.read(names[name]), kept)
    if initialise_head_seed is not None:
        initialise(model, initialise_head_seed, model.initial_std, fresh)
    model.initialised = fresh
    if dtype in HELD:
        model.freeze()
    return model


def with_layers(model: Any, layers: Iterable[int]) -> Any:
    """A copy of `model` to train, with only the given layers, in that order, everything else kept.

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
    source, prefix = model.named_parameters(), f"{model.blocks}."
    dtype = next(iter(source.values())).dtype.name
    dtype = "float32" if dtype in HELD else dtype
    with shapes_only():
        copy = type(model)(model.config_with_layers(layers), dtype=dtype)
        copy.follow(model)
    for name, parameter in copy.named_parameters().items():
        origin = name
        if name.startswith(prefix):
            number, rest = name.removeprefix(prefix).split(".", 1)
            origin = f"{prefix}{layers[int(number)]}.{rest}"
        parameter.data = source[origin].data.astype(dtype)
    return copy


def save(model: Any, folder: Path, *, max_shard_bytes: int = 5 * 10**9) -> None:
    """Write config.json, float32 safetensors and what else transformers keeps beside them."""
    files.make_folder(folder)
    tensors = {name: parameter.data for name, parameter in model.named_parameters().items()}
    write_folder(folder, tensors, max_shard_bytes=max_shard_bytes, metadata={"format": "pt"})
    config = {**model.config.to_hf(), "architectures": [model.hf_class]}
    files.write_json(folder / "config.json", config)
    for name, content in model.extra_files().items():
        files.make_folder((folder / name).parent)
        files.write_json(folder / name, content)


def _read_raw(folder: Path) -> Mapping[str, Any]:
    raw = files.read_json(folder / "config.json")
    if not isinstance(raw, dict):
        raise ConfigError(
            f"{folder / 'config.json'}: not a JSON object", hint="give a model folder"
        )
    return raw


def _model_class(raw: Mapping[str, Any], head: str | None) -> Any:
    kind = raw.get("model_type")
    if not isinstance(kind, str) or kind not in ARCHITECTURES:
        shown = escape_controls(str(kind)) if kind is not None else "missing"
        raise UnsupportedError(
            f"config.json: model_type {shown} is not an architecture this version knows",
            hint=f"known: {', '.join(sorted(ARCHITECTURES))}",
        )
    heads: dict[str, Any] = import_module(ARCHITECTURES[kind], __package__).HEADS
    if head is not None:
        if head not in heads:
            raise UnsupportedError(
                f"{kind} has no head {escape_controls(head)}", hint=f"it has {', '.join(heads)}"
            )
        return heads[head]
    named = raw.get("architectures")
    if not named:
        return next(iter(heads.values()))
    for each in heads.values():
        if isinstance(named, list) and each.hf_class in named:
            return each
    known = ", ".join(each.hf_class for each in heads.values())
    raise UnsupportedError(
        f"config.json: architectures {escape_controls(str(named))} is none of {kind}'s: {known}",
        hint=f"choose one of them by head: {', '.join(heads)}",
    )


def _checked(dtype: str) -> str:
    if dtype not in TRAINABLE:
        raise UnsupportedError(
            f"models cannot be trained in {dtype}", hint=f"use one of {', '.join(TRAINABLE)}"
        )
    return dtype


def _converted(folder: Path, name: str, array: np.ndarray, dtype: Any) -> np.ndarray:
    if array.dtype.kind not in "fV" or array.dtype.itemsize < 2:
        raise UnsupportedError(
            f"{folder}: {name} is stored as {array.dtype}, which cannot be computed with",
            hint="give a checkpoint in float32, float16, bfloat16 or float64",
        )
    return np.ascontiguousarray(array.astype(dtype))


def _untied(
    names: dict[str, str], tied: Mapping[str, str], weights: SafetensorsFolder
) -> dict[str, str]:
    """`names` without the further names of tied parameters, which a file may use instead of the
    first one, or beside it where both hold the same."""
    for further, first in tied.items():
        if further not in names:
            continue
        if first not in names:
            names[first] = names.pop(further)
        elif np.array_equal(weights.read(names[further]), weights.read(names[first])):
            del names[further]
    return names


def _check_shapes(
    folder: Path,
    parameters: Mapping[str, Any],
    names: Mapping[str, str],
    fresh: tuple[str, ...],
    weights: SafetensorsFolder,
) -> None:
    problems = [
        f"{name}: missing, wanted {tuple(parameter.shape)}"
        for name, parameter in parameters.items()
        if name not in names and name not in fresh
    ]
    for name, stored in names.items():
        shape = tuple(weights.info(stored).shape)
        if name not in parameters:
            problems.append(f"{escape_controls(stored)}: not part of this architecture")
        elif shape != tuple(parameters[name].shape):
            problems.append(f"{name}: wanted {tuple(parameters[name].shape)}, found {shape}")
    if problems:
        raise ConfigError(
            f"{folder}: the weights contradict config.json in {len(problems)} tensors",
            details=_shortened(problems),
            hint="config.json and the weights must come from the same model",
        )


def _shortened(lines: Iterable[str]) -> list[str]:
    lines = list(lines)
    more = [f"and {len(lines) - SHOWN} more"] if len(lines) > SHOWN else []
    return lines[:SHOWN] + more
