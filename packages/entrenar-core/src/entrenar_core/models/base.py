"""Finding an architecture, and reading and writing its Hugging Face folder."""

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from entrenar_common.errors import ConfigError, UnsupportedError
from entrenar_core.io import files
from entrenar_core.io.safetensors import write_folder
from entrenar_core.models.architectures import model_class
from entrenar_core.models.holding import AS_STORED, HELD, Keeping
from entrenar_core.models.quantized import without_quantization
from entrenar_core.models.source import read_raw
from entrenar_core.models.stored import StoredModel
from entrenar_core.nn import shapes_only
from entrenar_core.nn.init import initialise
from entrenar_core.quant import Format, format_named

TRAINABLE = ("float32", "float64")
"""What `dtype` may be: float32 is for work, float64 for checking."""


def read_config(folder: Path) -> Any:
    """The config of the model in `folder`, as the dataclass of its architecture.

    Raises NotFoundError without a config.json, UnsupportedError for an unknown architecture, and
    ConfigError or FormatError for contents that are wrong.
    """
    raw = read_raw(folder)
    return model_class(raw, None).Config.from_hf(raw)


def from_config(
    raw: Mapping[str, Any], *, seed: int, head: str | None = None, dtype: str = "float32"
) -> Any:
    """A model with fresh weights from the keys of a Hugging Face config; `model_type` defaults to
    llama, and `head` to what `architectures` says. The weights are a pure function of `seed` and
    the tensors' names."""
    raw = {"model_type": "llama", **raw}
    kind = model_class(raw, head)
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
    kind = model_class(raw, head)
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
    quantize: str | Format | None = None,
) -> Any:
    """The model in a Hugging Face folder or a GGUF file, its weights converted to `dtype` (float32
    or float64).

    With "bfloat16" or "float16" its matrices are kept in these 16 bits and the model is frozen.
    They are widened, a part at a time, where they are used: all arithmetic is in float32.

    With `quantize`, a format or its name such as "nf4", "int8", "q4_0" or "q8_0", the matrices of
    projections, without that of the output and of a head, are kept in this format and used in the
    same way, and the model is frozen too: the base of adapters. Everything else is as `dtype` says.
    What a folder of bitsandbytes has in NF4, or a GGUF file in the very format, stays as it is;
    with "stored" everything that is in few bits there, and nothing else is put in few bits.

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
    contradict each other; UnsupportedError for an unknown dtype or format; ShapeError for a matrix
    that is no whole number of the format's blocks.
    """
    wide = "float32" if dtype in HELD else _checked(dtype)
    form = None if quantize is None else _computed_in_float32(quantize, wide)
    drawn = head is not None and initialise_head_seed is not None
    with StoredModel(Path(path), head=head, dtype=wide, head_may_miss=drawn) as found:
        model = found.model
        keeping = Keeping(found, dtype=wide, matrices=HELD.get(dtype, wide), form=form)
        for name, parameter in model.named_parameters().items():
            if name in found.missing:
                parameter.data = np.empty(parameter.shape, wide)
            else:
                parameter.data = keeping.read(name)
    if initialise_head_seed is not None:
        initialise(model, initialise_head_seed, model.initial_std, found.missing)
    model.initialised = found.missing
    if dtype in HELD or form is not None:
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
    """Write config.json, float32 safetensors and what else transformers keeps beside them.

    Of matrices in few bits the numbers are written that they stand for. Raises ConfigError for a
    model that computes with adapters, which a checkpoint has no place for.
    """
    if model.active_adapters and not model.fused:
        raise ConfigError(
            f"the model computes with adapters: {', '.join(model.active_adapters)}",
            hint="put them into its weights (lora.fuse), or save them alone (adapter.save)",
        )
    files.make_folder(folder)
    tensors = {name: parameter.data for name, parameter in model.base_parameters().items()}
    write_folder(folder, tensors, max_shard_bytes=max_shard_bytes, metadata={"format": "pt"})
    config = {**model.config.to_hf(), "architectures": [model.hf_class]}
    files.write_json(folder / "config.json", config)
    for name, content in model.extra_files().items():
        files.make_folder((folder / name).parent)
        files.write_json(folder / name, content)


def _computed_in_float32(quantize: str | Format, dtype: str) -> str | Format:
    form = quantize if quantize == AS_STORED else format_named(quantize)
    if dtype != "float32":
        name = form.name if isinstance(form, Format) else "few bits"
        raise UnsupportedError(
            f"weights in {name} are float32 to those that compute, not {dtype}",
            hint="use quantize with dtype float32, bfloat16 or float16",
        )
    return form


def _checked(dtype: str) -> str:
    if dtype not in TRAINABLE:
        raise UnsupportedError(
            f"models cannot be trained in {dtype}", hint=f"use one of {', '.join(TRAINABLE)}"
        )
    return dtype
