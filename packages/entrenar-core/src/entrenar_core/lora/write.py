"""Writing adapters: a folder as PEFT's, a file of tensors with its settings beside it, or JSON."""

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from entrenar_common.errors import ConfigError, RefusedError, StorageError
from entrenar_core.io import files
from entrenar_core.io.files import Written
from entrenar_core.io.new_folder import check_new, new_folder
from entrenar_core.io.safetensors import write_file
from entrenar_core.io.torch_save import write_torch
from entrenar_core.lora.config import LoraConfig
from entrenar_core.lora.json_file import write_json_adapter
from entrenar_core.lora.peft_config import CONFIG, PeftConfig, config_path
from entrenar_core.lora.stored import OLD_WEIGHTS, PREFIX, WEIGHTS
from entrenar_core.lora.update import Update

SAFETENSORS, TORCH, JSON = "safetensors", "pth", "json"

FORMS = {
    ".json": JSON, ".safetensors": SAFETENSORS, ".pth": TORCH, ".pt": TORCH, ".bin": TORCH
}  # fmt: skip
"""Suffix of a file → what it is; a name with another suffix is a folder's."""


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


def write_adapter(
    path: str | Path, content: AdapterContent, *, form: str | None = None
) -> list[Path]:
    """Write an adapter, and return its files. `path` says how: `.json` is one JSON file; a file of
    tensors (`.safetensors`, `.bin`, `.pth`, `.pt`) has its `adapter_config.json` beside it; all
    else is a folder as PEFT's. `form` ("safetensors", "pth" or "json") says what is in a folder, or
    has to be what the file's name says.

    A new folder is complete or not there; one that is there has the old adapter, the new one, or
    none that can be read, wherever it stops.

    Raises ConfigError for a file where a folder is to be, and for a name of another form;
    NumericsError for JSON of numbers that are not finite, StorageError.
    """
    path = Path(path)
    named = FORMS.get(path.suffix.lower())
    if path.is_dir() != (named is None) and path.exists():
        what = "a file, and a folder" if named is None else "a folder, and a file"
        raise ConfigError(f"{path}: is {what} is to be written", hint="give another output")
    if (form is not None and named not in (None, form)) or (form == JSON and named is None):
        suffix = next(suffix for suffix, each in FORMS.items() if each == (form or JSON))
        raise ConfigError(
            f"{path}: is no name for {form}",
            hint=f"give a name that ends in {suffix}" + ("" if form == JSON else ", or a folder"),
        )
    if named == JSON:
        write_json_adapter(path, content.settings.to_json(), content.tensors)
        return [path]
    if named is None:
        return _folder(path, content, form or SAFETENSORS)
    return _tensors_and_config(path, content, named)


def check_adapter_output(path: Path) -> None:
    """Raise RefusedError where writing an adapter to `path` would change another one: for a folder
    that is there and not empty, and for a new file beside another file's `adapter_config.json`."""
    if path.suffix.lower() not in FORMS:
        check_new(path)
    elif FORMS[path.suffix.lower()] != JSON:
        beside = config_path(path)
        if beside.exists() and not path.exists():
            raise RefusedError(
                f"{beside}: is there already, of another adapter",
                hint="give a file in a folder of its own, or a folder",
            )


def _folder(path: Path, content: AdapterContent, form: str) -> list[Path]:
    name = {SAFETENSORS: WEIGHTS, TORCH: OLD_WEIGHTS}[form]
    if path.is_dir() and any(path.iterdir()):
        # without its config a folder is no adapter: its weights can then be replaced
        for old in (CONFIG, WEIGHTS, OLD_WEIGHTS):
            if (path / old).exists():
                files.remove_tree(path / old)
        return _tensors_and_config(path / name, content, form)
    with new_folder(path) as folder:
        found = _tensors_and_config(folder / name, content, form)
    return [path / each.name for each in found]


def _tensors_and_config(path: Path, content: AdapterContent, form: str) -> list[Path]:
    _TENSOR_WRITERS[form](path, content.tensors)
    beside = path.parent / CONFIG
    try:
        files.write_json(beside, content.settings.to_json())
    except StorageError:
        with suppress(StorageError):  # the first error is the one to report
            files.remove_tree(path)
        raise
    return [path, beside]


def _safetensors(path: Path, tensors: Mapping[str, np.ndarray]) -> Written:
    return write_file(path, tensors, {"format": "pt"})


_TENSOR_WRITERS: dict[str, Callable[[Path, Mapping[str, np.ndarray]], Written]] = {
    SAFETENSORS: _safetensors, TORCH: write_torch
}  # fmt: skip
