"""Where a model's config and weights lie: a Hugging Face folder, a GGUF file or an APR file."""

import hashlib
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
from entrenar_core.io.apr import APRFile, is_apr
from entrenar_core.io.gguf import GGUFFiles, is_gguf
from entrenar_core.kernels import Held
from entrenar_core.models.gguf_family import Family, family_of_file
from entrenar_core.models.gguf_layout import Heads
from entrenar_core.models.quantized import OPENERS, without_quantization
from entrenar_core.quant import BlockFormat

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

    def held(self, name: str) -> Held | None:
        """A matrix as it is stored, where that is in few bits; None elsewhere."""
        ...

    def release(self, name: str) -> None:
        """Let the pages of a tensor that was read go."""
        ...

    def close(self) -> None:
        """Close the files; arrays that were read stay valid."""
        ...


class FileWeights(Weights, Protocol):
    """The weights in a file that has the model's config too."""

    @property
    def raw(self) -> Mapping[str, Any]:
        """The keys of the config."""
        ...

    def settle(self, model: Any) -> None:
        """Set what the config does not say of a model."""
        ...


class Source:
    """A model on disk: `raw` has the keys of its config, `weights` its tensors.

    `path` is a Hugging Face folder, a GGUF file or an APR file; what is in a file decides, not what
    it is called. Raises what is wrong with it: NotFoundError, FormatError, ConfigError,
    UnsupportedError.
    """

    raw: Mapping[str, Any]
    weights: Weights

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = _open_file(path)
        if self._file is not None:
            self.raw, self.weights = self._file.raw, self._file
        else:
            self.raw, method = without_quantization(_read_config(path))
            self.weights = OPENERS[method](path)

    def prepare(self, model: Any, names: dict[str, str]) -> None:
        """Let `model` adapt to what there is besides config and weights."""
        model.prepare(self.path, names)
        if self._file is not None:
            self._file.settle(model)

    def close(self) -> None:
        """Closes the files; arrays that were read stay valid."""
        self.weights.close()


def _open_file(path: Path) -> FileWeights | None:
    """The weights in a file that is a whole model, None for a folder."""
    if is_gguf(path):
        return GGUFWeights(path)
    return APRWeights(path) if is_apr(path) else None


def is_model_file(path: Path) -> bool:
    """Whether `path` is a file that may hold a whole model, by how it begins."""
    return is_gguf(path) or is_apr(path)


def read_raw(path: Path) -> Mapping[str, Any]:
    """The keys of the config of the model in a folder or a file, without how its weights are
    quantized."""
    file = _open_file(path)
    if file is None:
        return without_quantization(_read_config(path))[0]
    with closing(file):
        return file.raw


def _read_config(folder: Path) -> Mapping[str, Any]:
    raw = files.read_json(folder / "config.json")
    if not isinstance(raw, dict):
        raise ConfigError(
            f"{folder / 'config.json'}: not a JSON object", hint="give a model folder"
        )
    return raw


@dataclass(frozen=True)
class _Place:
    shape: tuple[int, ...]
    dtype: str


class APRWeights(APRFile):
    """The tensors of an APR file, whose metadata have the config."""

    def _open(self) -> None:
        super()._open()
        raw = self.metadata.get("config")
        if not isinstance(raw, dict):
            raise FormatError(
                f"{self.path}: its metadata have no config",
                hint="export the model again, or put its config.json there: see docs/apr.md",
            )
        self.raw: Mapping[str, Any] = raw

    def held(self, name: str) -> Held | None:
        """The matrix in the blocks that the file has; None where it is not in blocks."""
        info = self.info(name)
        in_blocks = isinstance(info.dtype, BlockFormat) and len(info.shape) == 2
        return Held(self.read_blocks(name)) if in_blocks else None

    def settle(self, model: Any) -> None:
        """The config says everything."""


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

    def stored_name(self, name: str) -> str | None:
        """What the file calls a tensor; None where it follows from the config, or is not there."""
        return self._stored.get(name)

    def read(self, name: str) -> np.ndarray:
        """The floats of a tensor in Hugging Face's layout, float32."""
        if name in self._implied:
            return self._implied[name]
        stored = self._stored[name]
        floats = self.file.read(stored).dequantize()
        return self.family.from_gguf(stored, floats, self._heads)

    def held(self, name: str) -> Held | None:
        """The matrix in the blocks that the file has; None for a tensor with another number of axes
        than two."""
        stored = self._stored.get(name)
        if stored is None or len(self.file.info(stored).shape) != 2:
            return None
        return self.family.held_from_gguf(stored, self.file.read(stored), self._heads)

    def release(self, name: str) -> None:
        """Lets the kernel drop the tensor's pages from memory."""
        if name in self._stored:
            self.file.release(self._stored[name])

    def settle(self, model: Any) -> None:
        """Set what the config does not say."""
        self.family.settle(self.file, model)

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


def model_files(path: Path) -> list[Path]:
    """The files that make the model at `path`: its config, where it has one of its own, and those
    that hold its weights."""
    source = Source(path)
    try:
        weights = sorted(source.weights.paths)
    finally:
        source.close()
    return weights if is_model_file(path) else [path / "config.json", *weights]


def stored_bytes(path: Path) -> int:
    """The bytes of the files that hold the weights of the model at `path`."""
    return sum(file.stat().st_size for file in model_files(path) if file.name != "config.json")


def hash_of_model(path: Path) -> str:
    """A hash of the files that make the model at `path`."""
    digest = hashlib.sha256()
    for file in model_files(path):
        digest.update(files.sha256_file(file).encode())
    return digest.hexdigest()
