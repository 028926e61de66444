"""Finding the shape of a model: from a folder, a file, a published name, or the hub's headers."""

from collections import Counter
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any

from entrenar_common.errors import ConfigError, NotFoundError
from entrenar_common.text import escape_controls, nearest
from entrenar_core.estimate.own_weights import BLOCKS
from entrenar_core.estimate.shape import ModelShape, model_shape
from entrenar_core.io import files, hub
from entrenar_core.io.weights import has_weights
from entrenar_core.models.architectures import model_class
from entrenar_core.models.quantized import without_quantization
from entrenar_core.models.reference import reference_config, reference_name, reference_names
from entrenar_core.models.source import Source, is_model_file, read_raw
from entrenar_core.models.stored import SHOWN, StoredModel
from entrenar_core.nn import shapes_only


def find_shape(spec: str | Path, *, revision: str | None = None) -> ModelShape:
    """The shape of the model that `spec` means, without its weights.

    A folder, a `config.json`, a GGUF or an APR file; else a published name or size, such as
    llama-2-7b or 7B (`models.reference`); else a name on the hub (org/model), of which the config
    and the headers of the safetensors files are fetched. Where there are weights, their shapes have
    to be those that the config says.

    Raises NotFoundError for what is none of these, ConfigError for contradictions, and what reading
    raises.
    """
    name = str(spec)
    path = Path(spec).expanduser()
    if name and path.exists():
        return _on_disk(path)
    known = reference_name(name)
    if known is not None:
        return model_shape(reference_config(known), name=known, origin="published config")
    if "/" in name:
        return hub_shape(name, revision)
    names = reference_names()
    like = nearest(name, names)
    raise NotFoundError(
        f"model {escape_controls(name)!r}: no such file or folder, and no published name",
        hint=(f"did you mean {like}? " if like else "")
        + f"give a folder, a config.json, a GGUF file, org/model, a size such as 7B, or one of "
        f"{', '.join(names)}",
    )


def _on_disk(path: Path) -> ModelShape:
    if path.suffix == ".json":
        raw = files.read_json(path)
        if not isinstance(raw, dict):
            raise ConfigError(f"{path}: not a JSON object", hint="give a config.json")
        return model_shape(without_quantization(raw)[0], name=str(path), origin="config.json")
    if path.is_file() and not is_model_file(path):
        raise NotFoundError(
            f"{path}: a file, but no config.json, GGUF or APR",
            hint="give the folder that contains it",
        )
    shape = model_shape(read_raw(path), name=str(path), origin="the model's config")
    if path.is_file() or has_weights(path):
        StoredModel(path, head=None, head_may_miss=True).close()  # raises where they contradict
    return shape


def find_weights(spec: str | Path) -> Path | None:
    """The folder or file on this machine that has the weights of the model that `spec` means; None
    where there are none: a published name, a name on the hub, or a config alone."""
    path = Path(spec).expanduser()
    if not str(spec) or not path.exists():
        return None
    if path.is_dir():
        return path if has_weights(path) else None
    return path if path.suffix != ".json" and is_model_file(path) else None


def stored_format(path: Path, shape: ModelShape) -> str | None:
    """The type of blocks that most numbers in the projections of the model at `path` are stored
    in, such as q4_k; None where they are stored as floats.

    Raises what opening it raises.
    """
    source = Source(path)
    try:
        counts: Counter[str] = Counter()
        names = model_class(source.raw, None).sanitize(source.weights.names())
        for ours, theirs in names.items():
            sides = shape.linears.get(ours.removesuffix(".weight"))
            if sides is not None and ours.endswith(".weight"):
                kind = source.weights.info(theirs).dtype
                counts[str(getattr(kind, "name", kind)).lower()] += prod(sides)
    finally:
        source.close()
    most = max(counts, key=lambda kind: counts[kind], default="")
    return most if most in BLOCKS else None


def hub_shape(name: str, revision: str | None = None) -> ModelShape:
    """The shape of the hub's model `name`, whatever lies on this machine under that name.

    Raises what `find_shape` raises.
    """
    path = Path(name).expanduser()
    if path.is_absolute() or name.startswith((".", "~")):
        raise NotFoundError(f"{path}: no such file or folder", hint="check the path")
    raw = files.read_json(hub.fetch_config(name, revision))
    if not isinstance(raw, dict):
        raise ConfigError(f"{name}: its config.json is not a JSON object", hint="check the name")
    raw, quantization = without_quantization(raw)
    shape = model_shape(raw, name=name, origin="hub: config and headers")
    headers = hub.fetch_shapes(name, revision)
    if headers is not None and quantization is None:
        _compare(name, raw, headers)
    return shape


def _compare(
    name: str, raw: Mapping[str, Any], headers: Mapping[str, tuple[str, tuple[int, ...]]]
) -> None:
    """Raise ConfigError where a tensor on the hub has another shape than the config says."""
    kind = model_class(raw, None)
    with shapes_only():
        parameters = kind(kind.Config.from_hf(raw)).named_parameters()
    wrong = [
        f"{escape_controls(theirs)}: {headers[theirs][1]} stored, {parameters[ours].shape} by the "
        "config"
        for ours, theirs in kind.sanitize(headers).items()
        if ours in parameters and headers[theirs][1] != parameters[ours].shape
    ]
    if wrong:
        raise ConfigError(
            f"{name}: {len(wrong)} tensors do not have the shapes that config.json says",
            details=wrong[:SHOWN],
            hint="the files on the hub contradict each other: choose another revision",
        )
