"""The model that an adapter is applied to, as it lies on a disk."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from entrenar_common.errors import UnsupportedError
from entrenar_common.text import escape_controls
from entrenar_core.io import files
from entrenar_core.io.bitsandbytes import FourBitFolder
from entrenar_core.io.closing import Closing
from entrenar_core.io.kinds import is_gguf
from entrenar_core.io.safetensors import SafetensorsFile
from entrenar_core.io.torch_save import TorchFile
from entrenar_core.io.weights import open_weights
from entrenar_core.models.quantized import OPENERS, without_quantization
from entrenar_core.models.source import GGUFWeights

CONFIG = "config.json"
TORCH_FILES = (".bin", ".pth", ".pt")

HEADS = ("lm_head", "embed_out")
TABLES = ("embed_tokens", "wte", "word_embeddings", "embed_in", "tok_embeddings")
"""What models call the projection that makes their output, and the table of their tokens."""

_UNTIED = ("llama", "mistral", "mixtral", "qwen2", "qwen2_moe", "qwen3", "qwen3_moe", "phi", "phi3")
"""Types of models whose output has a matrix of its own unless the config says otherwise."""

_STORED_TRANSPOSED = {"gpt2": ("c_attn", "c_proj", "c_fc", "q_attn")}
"""Which modules of a type of model have weights (in, out), whatever an adapter's config says: PEFT
goes by the module too, and may write its flag for the last one."""


class BaseWeights(Protocol):
    """Tensors by name, read one at a time from `paths`; see `models.source.Weights`."""

    @property
    def paths(self) -> list[Path]: ...

    def names(self) -> list[str]: ...

    def info(self, name: str) -> Any: ...

    def read(self, name: str) -> np.ndarray: ...

    def release(self, name: str) -> None: ...

    def close(self) -> None: ...


class Base(Closing):
    """The tensors at `path` by Hugging Face's names: a model folder, a lone file of tensors
    (safetensors, or of torch.save), or a GGUF file.

    `raw` has the keys of its config, None for a lone file; `weights` are its tensors.
    Raises what opening it raises: NotFoundError, FormatError, UnsupportedError.
    """

    raw: Mapping[str, Any] | None

    def __init__(self, path: Path) -> None:
        self.path = path
        self.weights: BaseWeights
        if is_gguf(path):
            self.weights = GGUFWeights(path)
            self.raw = self.weights.raw
        elif path.is_dir():
            self.raw, self.weights = _open_folder(path)
        else:
            kind = TorchFile if path.suffix.lower() in TORCH_FILES else SafetensorsFile
            self.raw, self.weights = None, kind(path)
        self._names = set(self.weights.names())
        self._first = sorted({name.partition(".")[0] for name in self._names})

    @property
    def is_quantized(self) -> bool:
        """Whether weights are stored in few bits, and read as floats."""
        return isinstance(self.weights, FourBitFolder | GGUFWeights)

    def find(self, name: str) -> str | None:
        """The tensor that `name`, a parameter of a model, is stored as; None where there is none.

        Checkpoints of a model without its head have names without their first part, and those of a
        model with one have one more.
        """
        shorter = name.partition(".")[2]
        longer = [f"{first}.{name}" for first in self._first]
        return next((n for n in (name, shorter, *longer) if n in self._names), None)

    def is_transposed(self, module: str, stated: bool) -> bool:
        """Whether the weight of a projection lies there as (in, out); `stated` is what the adapter
        says."""
        kind = None if self.raw is None else self.raw.get("model_type")
        known = _STORED_TRANSPOSED.get(str(kind))
        return stated if known is None else module.rpartition(".")[2] in known

    @property
    def is_tied(self) -> bool:
        """Whether the config says that the output's projection is the table of tokens."""
        if self.raw is None:
            return False
        inner = self.raw.get("text_config")
        settings = inner if isinstance(inner, Mapping) else self.raw
        default = settings.get("model_type") not in _UNTIED
        return bool(
            self.raw.get("tie_word_embeddings", settings.get("tie_word_embeddings", default))
        )

    def table(self) -> str | None:
        """The stored name of the table of tokens."""
        ends = tuple(f".{name}.weight" for name in TABLES)
        return next((name for name in sorted(self._names) if f".{name}".endswith(ends)), None)

    def head(self) -> str | None:
        """What the output's projection of a language model is called, whether it is stored or not;
        None where the model has no such output, or the config does not say."""
        stored = self.find(f"{HEADS[0]}.weight")
        if stored is not None or self.raw is None:
            return stored
        if isinstance(self.weights, GGUFWeights):
            return f"{HEADS[0]}.weight" if self.weights.family.head == "causal-lm" else None
        named = self.raw.get("architectures")
        text = " ".join(map(str, named)) if isinstance(named, list) else ""
        return f"{HEADS[0]}.weight" if "CausalLM" in text or "LMHead" in text else None

    def close(self) -> None:
        """Closes the files; arrays that were read stay valid."""
        self.weights.close()


def _open_folder(path: Path) -> tuple[Mapping[str, Any] | None, BaseWeights]:
    if not (path / CONFIG).exists():
        return None, open_weights(path)
    found = files.read_json(path / CONFIG)
    if not isinstance(found, dict):
        raise UnsupportedError(
            f"{path / CONFIG}: not a JSON object", hint="give the folder of a model"
        )
    try:
        raw, method = without_quantization(found)
    except UnsupportedError as problem:
        raise UnsupportedError(
            f"{escape_controls(str(path))}: {problem.message}",
            hint="give the model that it was quantized from: adapters are added to floats",
        ) from problem
    return raw, OPENERS[method](path)
