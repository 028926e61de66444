"""Writing adapters: a folder as PEFT's, a file of tensors with its settings beside it, or JSON."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from entrenar_common.errors import ConfigError
from entrenar_core.io import files
from entrenar_core.io.safetensors import write_file
from entrenar_core.io.torch_save import write_torch
from entrenar_core.lora.config import LoraConfig
from entrenar_core.lora.json_file import write_json_adapter
from entrenar_core.lora.peft_config import CONFIG, PeftConfig, config_path
from entrenar_core.lora.stored import PREFIX, WEIGHTS
from entrenar_core.lora.update import Update


@dataclass(frozen=True)
class AdapterContent:
    """An adapter in memory: its settings, the tensors by PEFT's names."""

    settings: PeftConfig
    tensors: Mapping[str, np.ndarray]


def content_of(
    settings: PeftConfig,
    updates: Mapping[str, Update],
    whole: Mapping[str, np.ndarray] | None = None,
) -> AdapterContent:
    """An adapter of `updates` by the names of modules, and of tensors that take the place of the
    model's by the names of parameters.

    Ranks follow from the updates: the commonest is the config's, others are in its pattern. What a
    scale is more or less than the config's is multiplied into B.
    """
    lora = with_ranks(settings.lora, {name: update.rank for name, update in updates.items()})
    tensors: dict[str, np.ndarray] = {}
    for name, update in updates.items():
        factor = update.scale / lora.scale_of(name, update.rank)
        b = update.b if factor == 1 else update.b * np.float32(factor)
        start = f"{PREFIX}{name}."
        if update.embedding:
            tensors |= {f"{start}lora_embedding_A": update.a, f"{start}lora_embedding_B": b}
        else:
            tensors |= {f"{start}lora_A.weight": update.a, f"{start}lora_B.weight": b}
        if update.bias is not None:
            own = np.float32(lora.scale_of(name, update.rank))
            tensors[f"{start}lora_B.bias"] = update.bias / own
        if update.magnitude is not None:
            tensors[f"{start}lora_magnitude_vector"] = update.magnitude
    for name, array in (whole or {}).items():
        module, _, last = name.rpartition(".")
        wrapped = f"{module}.base_layer.{last}" if module in updates else name
        tensors[f"{PREFIX}{wrapped}"] = array
    return AdapterContent(replace(settings, lora=lora), tensors)


def with_ranks(config: LoraConfig, ranks: Mapping[str, int]) -> LoraConfig:
    """`config` for modules of the given ranks."""
    if not ranks or all(config.rank_of(name) == rank for name, rank in ranks.items()):
        return config
    values = list(ranks.values())
    rank = max(values, key=values.count)
    patterns = {name: r for name, r in ranks.items() if r != rank}
    return replace(config, rank=rank, rank_pattern=patterns)


def write_adapter(path: str | Path, content: AdapterContent) -> list[Path]:
    """Write an adapter, and return its files. `path` says how: `.json` is one JSON file; a file of
    tensors (`.safetensors`, `.bin`, `.pth`, `.pt`) has its `adapter_config.json` beside it; all
    else is a folder as PEFT's.

    Raises ConfigError for a file where a folder is to be, NumericsError for JSON of numbers that
    are not finite, StorageError.
    """
    path = Path(path)
    write = WRITERS.get(path.suffix.lower(), _folder)
    if path.is_dir() != (write is _folder) and path.exists():
        what = "a file, and a folder" if write is _folder else "a folder, and a file"
        raise ConfigError(f"{path}: is {what} is to be written", hint="give another output")
    return write(path, content)


def _folder(path: Path, content: AdapterContent) -> list[Path]:
    files.make_folder(path)
    return _safetensors(path / WEIGHTS, content)


def _safetensors(path: Path, content: AdapterContent) -> list[Path]:
    write_file(path, content.tensors, {"format": "pt"})
    return [path, _config(path, content)]


def _torch(path: Path, content: AdapterContent) -> list[Path]:
    write_torch(path, content.tensors)
    return [path, _config(path, content)]


def _json(path: Path, content: AdapterContent) -> list[Path]:
    write_json_adapter(path, content.settings.to_json(), content.tensors)
    return [path]


def _config(path: Path, content: AdapterContent) -> Path:
    beside = config_path(path)
    assert beside.name == CONFIG
    files.write_json(beside, content.settings.to_json())
    return beside


WRITERS: dict[str, Callable[[Path, AdapterContent], list[Path]]] = {
    ".json": _json, ".safetensors": _safetensors,
    ".bin": _torch, ".pth": _torch, ".pt": _torch,
}  # fmt: skip
"""Suffix of a file → what writes it."""
