"""Writing a base with adapters merged into it, tensor by tensor: a model folder, or a lone file."""

import re
from collections.abc import Callable, Set
from pathlib import Path
from typing import Any

from entrenar_common.errors import ConfigError, UnsupportedError
from entrenar_core.io import files
from entrenar_core.io.files import read_bytes
from entrenar_core.io.new_folder import new_folder
from entrenar_core.io.safetensors import write_file, write_folder
from entrenar_core.io.torch_save import write_torch
from entrenar_core.lora.base import CONFIG, TORCH_FILES
from entrenar_core.lora.merged import FLOATS, Merged
from entrenar_core.models.quantized import KEY as QUANTIZATION

WEIGHT_FILES = (
    ".safetensors", ".bin", ".pth", ".pt", ".ckpt", ".gguf", ".apr", ".h5", ".msgpack", ".onnx",
    ".ot", ".index.json", ".tflite",
)  # fmt: skip
"""What the names of files with weights end with; they are not copied."""

SENTENCE_PART = re.compile(r"\d+_\w+")
"""What folders with the parts of a sentence model are called, such as 1_Pooling."""

MAX_COPIED = 2**28
"""Bytes of the largest file that is copied along."""


def write_merged(merged: Merged, output: Path) -> list[Path]:
    """Write the merged model; returns the files of its weights. `output` is a file where it is
    called so (.safetensors, .bin, .pth, .pt), else a folder, which must not exist or be empty.

    Into a folder go config.json, the tokenizer and what else the base's folder has. A file is old
    or new, a folder complete or not there, wherever it stops.

    Raises NumericsError for results that are not finite, RefusedError for a folder that exists,
    ConfigError for a folder where the base is a lone file, StorageError.
    """
    merged.progress.start("merge", len(merged))
    try:
        return _WRITERS.get(output.suffix.lower(), _folder)(merged, output)
    finally:
        merged.progress.finish()


def check_output(output: Path, inputs: list[Path]) -> None:
    """Raise ConfigError where `output` is one of the inputs, or lies in or around one of them."""
    written = output.resolve()
    for path in inputs:
        read = path.resolve()
        if written == read or (read.is_dir() and read in written.parents and not output.suffix):
            raise ConfigError(f"{output}: is what is read", hint="give another output")
        if written in read.parents:
            raise ConfigError(f"{output}: has {path} in it", hint="give another output")
        if read.is_dir() and written.parent == read and output.exists():
            raise ConfigError(
                f"{output}: is a file of {path}, which is read", hint="give another output"
            )


def _safetensors(merged: Merged, output: Path) -> list[Path]:
    write_file(output, merged, {"format": "pt"})
    return [output]


def _torch(merged: Merged, output: Path) -> list[Path]:
    write_torch(output, merged)
    return [output]


def _folder(merged: Merged, output: Path) -> list[Path]:
    base = merged.base
    if base.raw is None and not base.path.is_dir():
        raise ConfigError(
            f"{output}: a model folder needs a {CONFIG}, and {base.path} is a file of tensors",
            hint="give the model's folder as the base, or an output such as merged.safetensors",
        )
    with new_folder(output) as folder:
        paths = write_folder(folder, merged)
        copy_files(base.path, folder, but={CONFIG})
        if (base.path / CONFIG).exists():
            files.write_json(folder / CONFIG, _config(merged, files.read_json(base.path / CONFIG)))
    return [output / path.name for path in paths]


_WRITERS: dict[str, Callable[[Merged, Path], list[Path]]] = {
    ".safetensors": _safetensors, **dict.fromkeys(TORCH_FILES, _torch)
}  # fmt: skip
"""Suffix of a file → what writes it."""


def _config(merged: Merged, raw: dict[str, Any]) -> dict[str, Any]:
    """The base's config.json as it is true of the merged model."""
    found = {key: value for key, value in raw.items() if key != QUANTIZATION}
    if merged.changes.untied:
        found["tie_word_embeddings"] = False
    if merged.dtype is not None:
        key = "torch_dtype" if "torch_dtype" in raw else "dtype"
        found[key] = merged.dtype.name
    return found


def copy_files(source: Path, target: Path, *, but: Set[str]) -> None:
    """Copy what is no weights and not called as one of `but`, such as the tokenizer and settings of
    generation, and the parts that a sentence model has in folders of their own. Other folders, of
    checkpoints and the like, are not of the model."""
    for path in sorted(source.iterdir()):
        if path.name.startswith(".") or path.name in but:
            continue
        if not path.is_dir():
            if not path.name.endswith(WEIGHT_FILES):
                _copy(path, target)
        elif SENTENCE_PART.fullmatch(path.name):
            files.make_folder(target / path.name)
            for part in sorted(path.iterdir()):
                if part.is_file():
                    _copy(part, target / path.name)


def _copy(path: Path, folder: Path) -> None:
    files.write_bytes(folder / path.name, read_bytes(path, max_bytes=MAX_COPIED))


def check_dtype(dtype: str | None) -> None:
    """Raise UnsupportedError for a type that files of tensors are not written in."""
    if dtype is not None and dtype not in FLOATS:
        raise UnsupportedError(
            f"files of tensors hold floats, not {dtype!r}",
            hint=f"give one of {', '.join(FLOATS)}, or an output that ends in .gguf",
        )
