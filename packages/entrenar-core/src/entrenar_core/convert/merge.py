"""A base with adapters merged into it, in whatever file: see `lora.merge` for folders and files of
tensors; GGUF is read and written here."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from entrenar_common.errors import ConfigError, UnsupportedError
from entrenar_common.text import escape_controls
from entrenar_core.convert.folder import write_model_folder
from entrenar_core.convert.gguf import GGUFPlan
from entrenar_core.convert.recipe import recipe_named
from entrenar_core.io.gguf import Planned, write_gguf
from entrenar_core.io.new_folder import check_new, new_folder
from entrenar_core.lora.base import TORCH_FILES, Base
from entrenar_core.lora.merge import check_dtype, write_merged
from entrenar_core.lora.merged import Merged
from entrenar_core.models.architectures import model_class
from entrenar_core.models.source import GGUFWeights, Info, Source, stored_type
from entrenar_core.quant import BlockArray, BlockFormat
from entrenar_core.quant.pieces import quantized

GGUF = ".gguf"


def write_merged_model(merged: Merged, output: Path, *, recipe: str | None = None) -> list[Path]:
    """Write the merged model; returns the files of its weights. A name in `output` that ends in
    .gguf is a GGUF file: of a base in GGUF with each tensor in the format that it has there, unless
    `recipe` names others; see `lora.merge.write_merged` for all else.

    Raises UnsupportedError for what llama.cpp cannot run and for formats that cannot be written,
    and what `write_merged` raises.
    """
    is_gguf = isinstance(merged.base.weights, GGUFWeights)
    if output.suffix.lower() == GGUF:
        if is_gguf and recipe is None:
            return _gguf_to_gguf(merged, output)
        return _to_gguf(merged, output, recipe)
    if is_gguf and output.suffix.lower() not in (".safetensors", *TORCH_FILES):
        return _gguf_to_folder(merged, output)
    return write_merged(merged, output)


def check_written(base: Base, output: Path, dtype: str | None) -> None:
    """Raise what can be known to be wrong with writing to `output` before anything is read:
    RefusedError for a folder that exists, UnsupportedError for a type, ConfigError."""
    if output.suffix.lower() == GGUF:
        if base.raw is None:
            raise ConfigError(
                f"{output}: a GGUF file needs the model's config, and {base.path} has none",
                hint="give the model's folder as the base",
            )
        if dtype is not None:
            recipe_named(dtype)
        return
    check_dtype(dtype)
    if output.suffix.lower() not in (".safetensors", *TORCH_FILES):
        check_new(output)


class MergedWeights:
    """The tensors of a merged model as `models.source` has those of a model on a disk."""

    def __init__(self, merged: Merged) -> None:
        self._merged = merged

    @property
    def paths(self) -> list[Path]:
        """The files of the base."""
        return self._merged.base.weights.paths

    def names(self) -> list[str]:
        """All of their names."""
        return list(self._merged)

    def info(self, name: str) -> Info:
        """What is known of a tensor."""
        found: Any = self._merged[name]
        return found

    def read(self, name: str) -> np.ndarray:
        """A tensor, float32 where it is changed."""
        return self._merged.floats(name)

    def held(self, name: str) -> None:
        """No matrix is kept in few bits: what is merged is floats."""

    def release(self, name: str) -> None:
        """Let the pages of the base's tensor go."""
        if name not in self._merged.changes.added:
            self._merged.base.weights.release(name)

    def close(self) -> None:
        """The base stays open: whoever opened it closes it."""


class MergedSource(Source):
    """A merged model as a source of models: its config says what is true of it."""

    def __init__(self, merged: Merged) -> None:
        base = merged.base
        assert base.raw is not None  # `check_written` has seen to it
        self.path = base.path
        self._file = base.weights if isinstance(base.weights, GGUFWeights) else None
        self.raw = {**base.raw}
        if merged.changes.untied:
            self.raw["tie_word_embeddings"] = False
        self.weights = MergedWeights(merged)


def _to_gguf(merged: Merged, output: Path, recipe: str | None) -> list[Path]:
    chosen = recipe_named(recipe or stored_type(merged.base.path))
    with GGUFPlan(merged.base.path, chosen, source=MergedSource(merged)) as plan:
        plan.write(output, progress=merged.progress)
    return [output]


def _gguf_to_folder(merged: Merged, output: Path) -> list[Path]:
    dtype = {"float32": "f32", "float16": "f16", "bfloat16": "bf16"}[str(merged.dtype)]
    with new_folder(output) as folder:
        found = write_model_folder(
            merged.base.path,
            folder,
            dtype=dtype,
            progress=merged.progress,
            opened=MergedSource(merged),
        )
    return [output / path.name for path in found]


def _gguf_to_gguf(merged: Merged, output: Path) -> list[Path]:
    """What does not change is copied byte for byte, metadata too."""
    weights = merged.base.weights
    assert isinstance(weights, GGUFWeights)
    file = weights.file
    changed = dict(_changed_names(merged, weights))
    forms = {name: file.info(name).form for name in file.tensors}
    shapes = {name: file.info(name).shape for name in file.tensors}
    for name, ours in changed.items():
        source = merged.changes.by_tensor[ours].source
        stored = name if name in forms else weights.stored_name(source or "")
        assert stored is not None
        forms[name], shapes[name] = _written(forms[stored], name), shapes[stored]
    config = model_class(weights.raw, weights.family.head).Config.from_hf(weights.raw)
    planned = [Planned(name, forms[name], shapes[name]) for name in forms]

    def read(name: str) -> BlockArray:
        merged.progress.advance()
        if name not in changed:
            found = file.read(name)
        else:
            array = weights.family.to_gguf(name, merged.floats(changed[name]), config)
            found = quantized(array, forms[name])
        if name in file.tensors:
            file.release(name)
        return found

    metadata = {key: file.metadata.value(key) for key in file.metadata}
    merged.progress.start("merge", len(planned))
    try:
        write_gguf(output, metadata, planned, read)
    finally:
        merged.progress.finish()
    return [output]


def _changed_names(merged: Merged, weights: GGUFWeights) -> Iterator[tuple[str, str]]:
    """What the file calls each tensor that changes or is added, and its own name."""
    for ours in merged.changes.by_tensor:
        stored = weights.stored_name(ours) or weights.family.names.to_gguf(ours)
        if stored is None:
            raise UnsupportedError(
                f"{escape_controls(ours)}: GGUF files of {weights.family.architecture} have no "
                "place for it",
                hint="give a folder as the output",
            )
        yield stored, ours


def _written(form: BlockFormat, name: str) -> BlockFormat:
    if form.encode is None:
        raise UnsupportedError(
            f"{escape_controls(name)} is stored as {form.name}, which nothing here writes",
            hint="give --dtype, such as q4_k_m: then all tensors are written anew",
        )
    return form
