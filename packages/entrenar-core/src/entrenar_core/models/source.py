"""Where a model's config and weights lie: a Hugging Face folder, or a GGUF file."""

from collections import Counter
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from entrenar_common.errors import ConfigError, FormatError
from entrenar_common.text import escape_controls
from entrenar_core.io import files
from entrenar_core.io.gguf import GGUFFiles, is_gguf
from entrenar_core.io.weights import open_weights
from entrenar_core.models.gguf_family import Family, family_of_file
from entrenar_core.models.gguf_layout import Heads

SPECIAL = {
    "bos": "tokenizer.ggml.bos_token_id",
    "eos": "tokenizer.ggml.eos_token_id",
    "pad": "tokenizer.ggml.padding_token_id",
}
"""Key of a special token's number, by its role."""


class Info(Protocol):
    """What a header says of a tensor: `str(dtype)` is the name of what its elements are stored
    as."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def dtype(self) -> object: ...


class Weights(Protocol):
    """Tensors by the names that Hugging Face gives them, read one at a time from `paths`."""

    @property
    def paths(self) -> list[Path]: ...

    def names(self) -> list[str]:
        """All of their names."""
        ...

    def info(self, name: str) -> Info:
        """What is known of a tensor without reading it."""
        ...

    def read(self, name: str) -> np.ndarray:
        """A tensor as it is stored; floats where it is stored in blocks."""
        ...

    def release(self, name: str) -> None:
        """Let the pages of a tensor that was read go."""
        ...

    def close(self) -> None:
        """Close the files; arrays that were read stay valid."""
        ...


class Source:
    """A model on disk: `raw` has the keys of its config, `weights` its tensors.

    `path` is a Hugging Face folder or a GGUF file; what is in the file decides, not its name.
    Raises what is wrong with either: NotFoundError, FormatError, ConfigError, UnsupportedError.
    """

    raw: Mapping[str, Any]
    weights: Weights

    def __init__(self, path: Path) -> None:
        self.path = path
        self._gguf: GGUFWeights | None = None
        if is_gguf(path):
            self._gguf = self.weights = GGUFWeights(path)
            self.raw = self._gguf.raw
        else:
            self.raw = read_raw(path)
            self.weights = open_weights(path)

    def prepare(self, model: Any, names: dict[str, str]) -> None:
        """Let `model` adapt to what there is besides config and weights."""
        model.prepare(self.path, names)
        if self._gguf is not None:
            self._gguf.family.settle(self._gguf.file, model)

    def close(self) -> None:
        """Closes the files; arrays that were read stay valid."""
        self.weights.close()


def read_raw(path: Path) -> Mapping[str, Any]:
    """The keys of the config of the model in a folder or in a GGUF file."""
    if is_gguf(path):
        with closing(GGUFWeights(path)) as found:
            return found.raw
    raw = files.read_json(path / "config.json")
    if not isinstance(raw, dict):
        raise ConfigError(f"{path / 'config.json'}: not a JSON object", hint="give a model folder")
    return raw


@dataclass(frozen=True)
class _Place:
    shape: tuple[int, ...]
    dtype: str


class GGUFWeights:
    """The tensors of a GGUF file under Hugging Face's names and in Hugging Face's layout."""

    def __init__(self, path: Path) -> None:
        self.file = GGUFFiles(path)
        try:
            self.family: Family = family_of_file(self.file)
            self.raw = self._config()
            self._implied = self.family.implied(self.file)
            self._stored = self._names()
        except BaseException:
            self.file.close()
            raise
        heads = self.raw.get("num_attention_heads", 1)
        self._heads = Heads(heads, self.raw.get("num_key_value_heads", heads))

    def _config(self) -> dict[str, Any]:
        file = self.file
        if "token_embd.weight" not in file.tensors:
            raise FormatError(
                f"{file.path}: no tensor token_embd.weight",
                hint="this is no language model; a part of a split file is opened by its first",
            )
        special = {
            f"{role}_token_id": file.metadata.integer(key) if key in file.metadata else None
            for role, key in SPECIAL.items()
        }
        rows = file.tensors["token_embd.weight"].shape[0]
        return {**self.family.raw(file), "vocab_size": rows, **special}

    def _names(self) -> dict[str, str]:
        """Hugging Face's name of each tensor → its name in the file."""
        found: dict[str, str] = {}
        for name in set(self.file.tensors) - self.family.left_out(self.file.tensors):
            ours = self.family.names.to_hf(name)
            if ours is None:
                raise FormatError(
                    f"{self.file.path}: tensor '{escape_controls(name)}' is not part of a "
                    f"{self.family.architecture} model",
                    hint="convert the model's Hugging Face folder instead",
                )
            found[ours] = name
        return found

    @property
    def paths(self) -> list[Path]:
        """The file, or its parts."""
        return [file.path for file in self.file.files]

    def names(self) -> list[str]:
        """The tensors' names, sorted."""
        return sorted({*self._stored, *self._implied})

    def info(self, name: str) -> Info:
        """The shape of a tensor in Hugging Face's layout."""
        if name in self._implied:
            return self._implied[name]
        stored = self._stored[name]
        info = self.file.info(stored)
        return _Place(self.family.hf_shape(stored, info.shape), info.form.name)

    def read(self, name: str) -> np.ndarray:
        """The floats of a tensor in Hugging Face's layout, float32."""
        if name in self._implied:
            return self._implied[name]
        stored = self._stored[name]
        floats = self.file.read(stored).dequantize()
        return self.family.from_gguf(stored, floats, self._heads)

    def release(self, name: str) -> None:
        """Lets the kernel drop the tensor's pages from memory."""
        if name in self._stored:
            self.file.release(self._stored[name])

    def close(self) -> None:
        """Closes the file; arrays that were read stay valid."""
        self.file.close()


def stored_type(path: Path) -> str:
    """The float type that most numbers of the model at `path` are stored as: "f32", "f16" or
    "bf16"; "f16" too where they are stored in fewer bits."""
    source = Source(path)
    try:
        counts: Counter[str] = Counter()
        for name in source.weights.names():
            info = source.weights.info(name)
            counts[str(info.dtype).lower()] += prod(info.shape)
    finally:
        source.close()
    most = max(counts, key=lambda kind: counts[kind], default="f32")
    return {"f32": "f32", "float32": "f32", "f64": "f32", "bf16": "bf16"}.get(most, "f16")


def stored_bytes(path: Path) -> int:
    """The bytes of the files that hold the weights of the model at `path`."""
    source = Source(path)
    try:
        return sum(file.stat().st_size for file in source.weights.paths)
    finally:
        source.close()
