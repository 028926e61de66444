"""A model on disk as a GGUF file: read, laid out, quantized and written tensor by tensor."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from entrenar_common.errors import EntrenarError, UnsupportedError
from entrenar_common.progress import NullProgress, Progress
from entrenar_core.convert.recipe import FormatChoice, Shape
from entrenar_core.data.load_tokenizer import load_tokenizer
from entrenar_core.data.tokenizer import Tokenizer
from entrenar_core.data.tokenizer_gguf import gguf_tokenizer
from entrenar_core.io.closing import Closing
from entrenar_core.io.files import Written
from entrenar_core.io.gguf import Planned, Value, text, u32, write_gguf
from entrenar_core.models.gguf_family import Described, Family, family_of
from entrenar_core.models.source import Source, read_raw
from entrenar_core.models.stored import StoredModel
from entrenar_core.quant import BlockArray
from entrenar_core.quant.pieces import quantized

QUANTIZATION_VERSION = 2
"""Of ggml's block formats: it has been this since 2023."""


class GGUFPlan(Closing):
    """What the model at `path`, a Hugging Face folder or a GGUF file, becomes as a GGUF file.

    `tensors` are those of the file to be, `ours` has their names in the model, and `notes` say what
    llama.cpp will not do as the model does. `pre` names llama.cpp's pre-tokenizer where it cannot
    be told from the tokenizer. `weights` has other numbers for some parameters, by name and in
    their shapes, than the model at `path`: those from which a recipe makes the model's numbers.
    `source` is where its config and weights come from, and `tokenizer` is its tokenizer, where that
    is not what lies at `path`.

    Raises UnsupportedError for a model or a tokenizer that llama.cpp cannot run, and what opening
    the model raises.
    """

    def __init__(
        self,
        path: Path,
        recipe: FormatChoice,
        *,
        name: str | None = None,
        pre: str | None = None,
        weights: Mapping[str, np.ndarray] | None = None,
        source: Source | None = None,
        tokenizer: Tokenizer | None = None,
    ) -> None:
        self.path, self.recipe, self._weights = path, recipe, weights or {}
        raw = read_raw(path) if source is None else source.raw
        self.family: Family = family_of(str(raw.get("model_type")))
        self.model = StoredModel(path, head=self.family.head, source=source)
        try:
            self._described: Described = self.family.describe(self.model.model)
            self.ours = _names(self.family, self.model.model, str(path))
            self.tensors = _planned(
                self.family, self.model.model, self.recipe, self.ours, self._described
            )
            self.keys = self._keys(
                name or path.resolve().stem, pre, tokenizer or load_tokenizer(path)
            )
        except BaseException:
            self.model.close()
            raise
        self.notes = self._described.notes

    def _keys(self, name: str, pre: str | None, tokenizer: Tokenizer) -> dict[str, Value]:
        rows = self.model.model.config.vocab_size
        return {
            "general.architecture": text(self.family.architecture),
            "general.type": text("model"),
            "general.name": text(name),
            "general.file_type": u32(self.recipe.file_type),
            "general.quantization_version": u32(QUANTIZATION_VERSION),
            **self._described.keys,
            **gguf_tokenizer(*tokenizer.to_json(), rows=rows, pre=pre, where=str(self.path)),
        }

    @property
    def nbytes(self) -> int:
        """The bytes of all tensors' data in the file to be."""
        return sum(tensor.nbytes for tensor in self.tensors)

    def floats(self, name: str) -> np.ndarray:
        """A tensor of the file to be as it is in the model, laid out as the file has it."""
        if name in self._described.extra:
            return self._described.extra[name]
        ours = self.ours[name]
        stored = self._weights[ours] if ours in self._weights else self.model.read(ours)
        return self.family.to_gguf(name, stored, self.model.model.config)

    def release(self, name: str) -> None:
        """Lets the kernel drop what `floats` has read from memory."""
        if name in self.ours:
            self.model.release(self.ours[name])

    def write(self, output: Path, *, progress: Progress | None = None) -> Written:
        """Write the file, whole or not at all; returns its size and hash.

        Of the model two tensors are in memory at a time, in the file's formats.
        Raises NumericsError for weights that are not finite, StorageError.
        """
        progress = progress or NullProgress()
        forms = {tensor.name: tensor.form for tensor in self.tensors}

        def read(name: str) -> BlockArray:
            try:
                found = quantized(self.floats(name), forms[name])
            except EntrenarError as error:
                raise type(error)(f"{self.path}: {name}: {error}", hint=error.hint) from error
            self.release(name)
            progress.advance()
            return found

        progress.start("write", len(self.tensors))
        try:
            return write_gguf(output, self.keys, self.tensors, read)
        finally:
            progress.finish()

    def close(self) -> None:
        """Closes the model's files."""
        self.model.close()


def check_gguf(model: Any, tokenizer: Tokenizer, *, pre: str | None = None) -> None:
    """Find out whether `model` could be written with `tokenizer`, before there is anything on disk.

    Raises UnsupportedError where llama.cpp could not run them.
    """
    family = family_of(model.config.model_type)
    family.describe(model)
    _names(family, model, "the model")
    gguf_tokenizer(*tokenizer.to_json(), rows=model.config.vocab_size, pre=pre)


def gguf_nbytes(model: Any, recipe: FormatChoice) -> int:
    """The bytes of all tensors' data in the file that `model` would become.

    Raises UnsupportedError where llama.cpp could not run it.
    """
    family = family_of(model.config.model_type)
    ours = _names(family, model, "the model")
    planned = _planned(family, model, recipe, ours, family.describe(model))
    return sum(tensor.nbytes for tensor in planned)


def _planned(
    family: Family, model: Any, recipe: FormatChoice, ours: Mapping[str, str], described: Described
) -> list[Planned]:
    config, shapes = model.config, {}
    held = model.named_parameters()  # walks the whole model
    for name, parameter in ours.items():
        shapes[name] = family.gguf_shape(name, tuple(held[parameter].shape), config)
    shapes |= {name: array.shape for name, array in described.extra.items()}
    shape_of = Shape.of(family.architecture, config, tied="output.weight" not in shapes)
    format_of = recipe.format_of
    return [Planned(n, format_of(n, shape, shape_of), shape) for n, shape in shapes.items()]


def _names(family: Family, model: Any, where: str) -> dict[str, str]:
    """A tensor's name in the file → its name in the model."""
    found: dict[str, str] = {}
    for ours in model.base_parameters():
        name = family.names.to_gguf(ours)
        if name is not None:
            found[name] = ours
        elif not ours.startswith(family.unused):
            raise UnsupportedError(
                f"{where}: llama.cpp's {family.architecture} has no place for {ours}",
                hint="this model cannot be written as GGUF; use safetensors",
            )
    return found
