"""A model on disk as a Hugging Face folder: its config, weights of one float type, tokenizer."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from entrenar_common.errors import ConfigError, NumericsError, UnsupportedError
from entrenar_common.progress import NullProgress, Progress
from entrenar_core.data.load_tokenizer import has_tokenizer, load_tokenizer
from entrenar_core.io import files
from entrenar_core.io.safetensors import write_folder
from entrenar_core.models.source import Source
from entrenar_core.models.stored import StoredModel
from entrenar_core.quant.pieces import pieces, rows_of, widened

DTYPES = {
    "f32": ("float32", np.dtype(np.float32)),
    "f16": ("float16", np.dtype(np.float16)),
    "bf16": ("bfloat16", np.dtype(ml_dtypes.bfloat16)),
}
"""What weights can be written as: the name in a config, and numpy's type."""


def dtype_named(name: str) -> tuple[str, np.dtype]:
    """The row of DTYPES; UnsupportedError for another name."""
    if name not in DTYPES:
        raise UnsupportedError(
            f"safetensors folders hold floats, not {name!r}",
            hint=f"give one of {', '.join(DTYPES)}, or write GGUF",
        )
    return DTYPES[name]


def write_model_folder(
    source: Path,
    output: Path,
    *,
    dtype: str = "f32",
    progress: Progress | None = None,
    opened: Source | None = None,
) -> list[Path]:
    """Write the model at `source`, a Hugging Face folder or a GGUF file, as a folder of `dtype`
    (f32, f16 or bf16), one tensor in memory at a time. Returns the files of the weights.

    The tokenizer goes along where there is one. `opened` is where config and weights come from,
    where that is not what lies at `source`. Raises ConfigError when the folder would be the
    source itself, NumericsError when a weight does not fit `dtype`, StorageError.
    """
    name, kind = dtype_named(dtype)
    if output.exists() and source.resolve() == output.resolve():
        raise ConfigError(
            f"{output}: is the model itself", hint="give another folder: nothing is overwritten"
        )
    progress = progress or NullProgress()
    tokenizer = load_tokenizer(source) if has_tokenizer(source) else None
    with StoredModel(source, head=None, source=opened) as model:
        files.make_folder(output)
        tensors = CastTensors(model, kind, progress)
        progress.start("write", len(tensors))
        try:
            paths = write_folder(output, tensors)
        finally:
            progress.finish()
        write_config(model.model, output, name)
    if tokenizer is not None:
        tokenizer.save(output)
    return paths


def write_config(model: Any, output: Path, dtype: str) -> None:
    """config.json and what else belongs beside the weights of `model`."""
    config = {**model.config.to_hf(), "architectures": [model.hf_class], "dtype": dtype}
    files.write_json(output / "config.json", config)
    for name, content in model.extra_files().items():
        files.make_folder((output / name).parent)
        files.write_json(output / name, content)


class CastTensors(Mapping[str, Any]):
    """The tensors of a model on disk as `dtype`; what is looked up becomes an array when asked."""

    def __init__(self, model: StoredModel, dtype: np.dtype, progress: Progress) -> None:
        self._model, self._dtype, self._progress = model, dtype, progress
        self._parameters = model.model.named_parameters()

    def __getitem__(self, name: str) -> "CastTensor":
        shape = tuple(self._parameters[name].shape)
        return CastTensor(self._model, name, shape, self._dtype, self._progress)

    def __iter__(self) -> Iterator[str]:
        return iter(self._parameters)

    def __len__(self) -> int:
        return len(self._parameters)


@dataclass(frozen=True)
class CastTensor:
    """A tensor of a model on disk that is read, as `dtype`, when it is made an array."""

    model: StoredModel
    name: str
    shape: tuple[int, ...]
    dtype: np.dtype
    progress: Progress

    @property
    def nbytes(self) -> int:
        return prod(self.shape) * self.dtype.itemsize

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        assert dtype is None and not copy
        found = cast(self.model.read(self.name), self.dtype, f"{self.model.path}: {self.name}")
        self.model.release(self.name)
        self.progress.advance()
        return found


def cast(array: np.ndarray, dtype: np.dtype, where: str) -> np.ndarray:
    """`array` as `dtype`, in pieces; NumericsError where a finite number would become infinite."""
    if array.dtype == dtype:
        return array
    rows = rows_of(array)
    found = np.empty(rows.shape, dtype)
    for part in pieces(*rows.shape):
        wide = widened(rows[part])
        with np.errstate(over="ignore"):
            found[part] = wide.astype(dtype)
        if not np.isfinite(found[part].astype(np.float32)).all() and np.isfinite(wide).all():
            raise NumericsError(
                f"{where}: {float(np.abs(wide).max()):.4g} does not fit {dtype}",
                hint="write f32 or bf16",
            )
    return found.reshape(array.shape)
