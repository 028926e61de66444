"""A model on disk in Hugging Face's form: config, weights of float types, tokenizer in a folder."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from entrenar_common.errors import ConfigError
from entrenar_common.progress import NullProgress, Progress
from entrenar_core.convert.floats import cast_pieces, dtype_named
from entrenar_core.data.load_tokenizer import has_tokenizer, load_tokenizer
from entrenar_core.io import files
from entrenar_core.io.safetensors import write_folder
from entrenar_core.models.source import Source
from entrenar_core.models.stored import StoredModel

WriteWeights = Callable[[Path, "CastTensors"], list[Path]]


def write_model_folder(
    source: Path,
    output: Path,
    *,
    dtype: str = "f32",
    own_types: Mapping[str, np.dtype] | None = None,
    write: WriteWeights = write_folder,
    progress: Progress | None = None,
    opened: Source | None = None,
) -> list[Path]:
    """Write the model at `source`, a Hugging Face folder, a GGUF or an APR file, as a folder of
    `dtype` (f32, f16 or bf16), a piece of a tensor in memory at a time. Returns the files of the
    weights.

    `own_types` are those of single tensors, by name. `write` puts the weights into the folder: by
    default in safetensors. The tokenizer goes along where there is one. `opened` is where config
    and weights come from, where that is not what lies at `source`. Raises ConfigError when the
    folder would be the source itself, NumericsError when a weight does not fit its type,
    StorageError.
    """
    name, kind = dtype_named(dtype)
    if output.exists() and source.resolve() == output.resolve():
        raise ConfigError(
            f"{output}: is the model itself", hint="give another folder: nothing is overwritten"
        )
    tokenizer = load_tokenizer(source) if has_tokenizer(source) else None
    with StoredModel(source, head=None, source=opened) as model:
        files.make_folder(output)
        paths = write_weights(
            output, CastTensors(model, kind, own_types or {}, progress or NullProgress()), write
        )
        write_config(model.model, output, name)
    if tokenizer is not None:
        tokenizer.save(output)
    return paths


def write_weights(output: Path, tensors: "CastTensors", write: WriteWeights) -> list[Path]:
    """Let `write` write the tensors, and show how far it is; returns the files."""
    tensors.progress.start("write", len(tensors))
    try:
        return write(output, tensors)
    finally:
        tensors.progress.finish()


def write_config(model: Any, output: Path, dtype: str) -> None:
    """config.json and what else belongs beside the weights of `model`."""
    config = {**model.config.to_hf(), "architectures": [model.hf_class], "dtype": dtype}
    files.write_json(output / "config.json", config)
    for name, content in model.extra_files().items():
        files.make_folder((output / name).parent)
        files.write_json(output / name, content)


class CastTensors(Mapping[str, "CastTensor"]):
    """The tensors of a model on disk as `dtype`, but for those with types of their own, each read
    when it is written."""

    def __init__(
        self,
        model: StoredModel,
        dtype: np.dtype,
        own_types: Mapping[str, np.dtype],
        progress: Progress,
    ) -> None:
        self.model, self.progress = model, progress
        self._dtype, self._own_types = dtype, own_types
        self._parameters = model.model.named_parameters()

    def __getitem__(self, name: str) -> "CastTensor":
        shape = tuple(self._parameters[name].shape)
        dtype = self._own_types.get(name, self._dtype)
        return CastTensor(self.model, name, shape, dtype, self.progress)

    def __iter__(self) -> Iterator[str]:
        return iter(self._parameters)

    def __len__(self) -> int:
        return len(self._parameters)


@dataclass(frozen=True)
class CastTensor:
    """A tensor of a model on disk as it will be written; see `io.streamed`."""

    model: StoredModel
    name: str
    shape: tuple[int, ...]
    dtype: np.dtype
    progress: Progress

    @property
    def nbytes(self) -> int:
        return prod(self.shape) * self.dtype.itemsize

    def pieces(self) -> Iterator[np.ndarray]:
        """Its elements in order, as `dtype`; NumericsError where one does not fit."""
        where = f"{self.model.path}: {self.name}"
        yield from cast_pieces(self.model.read(self.name), self.dtype, where)
        self.model.release(self.name)
        self.progress.advance()
