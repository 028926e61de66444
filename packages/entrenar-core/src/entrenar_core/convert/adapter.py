"""A LoRA adapter as PEFT writes it, as a GGUF file that llama.cpp applies to a model.

llama.cpp multiplies B·A by alpha/rank with one alpha for the whole file. Modules may differ in both
in PEFT, and rsLoRA divides by √rank, so what is not in that one number is multiplied into B.
Sources: Hu et al. 2021, arXiv:2106.09685; Kalajdzievski 2023, arXiv:2312.03732 (rsLoRA);
https://github.com/ggml-org/llama.cpp, `src/llama-adapter.cpp`.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from entrenar_common.errors import ConfigError, FormatError, UnsupportedError
from entrenar_common.text import escape_controls
from entrenar_core.convert.pieces import widened
from entrenar_core.convert.recipe import FORMATS
from entrenar_core.io import files
from entrenar_core.io.files import Written
from entrenar_core.io.gguf import Planned, f32, text, write_gguf
from entrenar_core.io.safetensors import SafetensorsFile
from entrenar_core.models.base import read_config
from entrenar_core.models.gguf_family import Family, family_of
from entrenar_core.quant import BlockArray

WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"

_PREFIX = "base_model.model."
_KINDS = {
    ".lora_A.weight": "a", ".lora_B.weight": "b", ".lora_embedding_A": "a", ".lora_embedding_B": "b"
}  # fmt: skip
_PLAIN = re.compile(r"[\w.\\]+", re.ASCII)


@dataclass(frozen=True)
class Adapter:
    """A PEFT adapter on disk: `pairs` has the names of A (rank, in) and B (out, rank) of each
    module."""

    path: Path
    rank: int
    alpha: float
    rs_lora: bool
    rank_pattern: Mapping[str, Any]
    alpha_pattern: Mapping[str, Any]
    pairs: Mapping[str, tuple[str, str]]

    @classmethod
    def read(cls, folder: Path) -> "Adapter":
        """The adapter in `folder`.

        Raises UnsupportedError for what is more than B·A, FormatError for a half of a pair, and
        ConfigError for settings that make no sense.
        """
        path = folder / CONFIG
        found = files.read_json(path)
        if not isinstance(found, dict) or found.get("peft_type") != "LORA":
            kind = found.get("peft_type") if isinstance(found, dict) else None
            raise UnsupportedError(
                f"{path}: peft_type {escape_controls(str(kind))} is no LoRA",
                hint="only LoRA adapters can be applied by llama.cpp",
            )
        for key in ("use_dora", "lora_bias", "modules_to_save", "trainable_token_indices"):
            if found.get(key):
                raise UnsupportedError(
                    f"{path}: {key} is more than llama.cpp adds to a model",
                    hint="merge the adapter into its model, and export that",
                )
        rank, alpha = found.get("r"), found.get("lora_alpha")
        if type(rank) is not int or rank < 1 or not _positive(alpha):
            raise ConfigError(
                f"{path}: r is {rank!r} and lora_alpha {alpha!r}",
                hint="r is a positive whole number, lora_alpha a positive number",
            )
        with SafetensorsFile(folder / WEIGHTS) as weights:
            pairs = _pairs(weights)
        return cls(
            folder,
            rank,
            float(alpha),
            bool(found.get("use_rslora")),
            _pattern(path, found, "rank_pattern"),
            _pattern(path, found, "alpha_pattern"),
            pairs,
        )

    def scale(self, module: str) -> float:
        """What B·A of `module` is multiplied by."""
        rank = _matching(self.rank_pattern, module, self.rank)
        alpha = _matching(self.alpha_pattern, module, self.alpha)
        return alpha / (math.sqrt(rank) if self.rs_lora else rank)


def write_adapter(adapter: Adapter, base: Path, output: Path) -> Written:
    """Write `adapter`, which was made for the model at `base`, as a GGUF file of float32.

    Raises UnsupportedError for a module that llama.cpp has no place for, FormatError for shapes
    that are not a pair's.
    """
    config = read_config(base)
    family = family_of(config.model_type)
    keys = {
        "general.architecture": text(family.architecture),
        "general.type": text("adapter"),
        "general.name": text(adapter.path.resolve().name),
        "adapter.type": text("lora"),
        "adapter.lora.alpha": f32(adapter.alpha),
    }
    with SafetensorsFile(adapter.path / WEIGHTS) as weights:
        arrays: dict[str, np.ndarray] = {}
        for module, (name_a, name_b) in adapter.pairs.items():
            a, b = widened(weights.read(name_a)), widened(weights.read(name_b))
            arrays |= _laid_out(adapter, family, config, module, a, b)
    form = FORMATS["f32"]
    planned = [Planned(name, form, array.shape) for name, array in arrays.items()]

    def read(name: str) -> BlockArray:
        return form.wrap(np.ascontiguousarray(arrays[name]).view(np.uint8), arrays[name].shape)

    return write_gguf(output, keys, planned, read)


def _laid_out(
    adapter: Adapter, family: Family, config: Any, module: str, a: np.ndarray, b: np.ndarray
) -> dict[str, np.ndarray]:
    label = f"{adapter.path / WEIGHTS}: {escape_controls(module)}"
    if a.ndim != 2 or b.ndim != 2 or a.shape[0] != b.shape[1]:
        raise FormatError(
            f"{label}: A {list(a.shape)} and B {list(b.shape)} are no pair",
            hint="A is (rank, in) and B (out, rank)",
        )
    name = family.names.to_gguf(f"{module}.weight")
    if name is None:
        raise UnsupportedError(
            f"{label}: llama.cpp's {family.architecture} has no place for it",
            hint="merge the adapter into its model, and export that",
        )
    # of the embeddings llama.cpp wants A by token
    a = a.T if name == "token_embd.weight" else a
    b = b * np.float32(adapter.scale(module) * b.shape[1] / adapter.alpha)
    return {f"{name}.lora_a": a, f"{name}.lora_b": family.outputs_to_gguf(name, b, config)}


def _pairs(weights: SafetensorsFile) -> dict[str, tuple[str, str]]:
    halves: dict[str, dict[str, str]] = {}
    for name in weights.names():
        suffix = next((s for s in _KINDS if name.endswith(s)), None)
        if suffix is None or not name.startswith(_PREFIX):
            raise UnsupportedError(
                f"{weights.path}: tensor '{escape_controls(name)}' is no part of a plain LoRA",
                hint="merge the adapter into its model, and export that",
            )
        module = name.removeprefix(_PREFIX).removesuffix(suffix)
        halves.setdefault(module, {})[_KINDS[suffix]] = name
    for module, found in halves.items():
        if found.keys() != {"a", "b"}:
            raise FormatError(
                f"{weights.path}: {escape_controls(module)} has only one of A and B",
                hint="the file is incomplete: fetch or write it again",
            )
    return {module: (found["a"], found["b"]) for module, found in sorted(halves.items())}


def _positive(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value) and value > 0


def _pattern(path: Path, config: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    found = config.get(key) or {}
    if not isinstance(found, dict) or not all(_positive(v) for v in found.values()):
        raise ConfigError(
            f"{path}: {key} is not a map of modules to positive numbers", hint="correct it"
        )
    for name in found:
        if not _PLAIN.fullmatch(name):  # a regular expression from a file can take for ever
            raise UnsupportedError(
                f"{path}: {key} has the expression '{escape_controls(name)}'",
                hint="names of modules are supported",
            )
    return found


def _matching(pattern: Mapping[str, Any], module: str, default: float) -> float:
    """The value of the first name that `module` is or ends with."""
    for name, value in pattern.items():
        plain = name.replace("\\.", ".")
        if module == plain or module.endswith(f".{plain}"):
            return value
    return default
