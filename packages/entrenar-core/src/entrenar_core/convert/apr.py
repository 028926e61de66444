"""A model on disk as an APR file: one JSON document with its config, tokenizer and tensors."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from entrenar_common.errors import UnsupportedError
from entrenar_common.progress import Progress
from entrenar_core.convert.floats import DTYPES
from entrenar_core.convert.recipe import FORMATS
from entrenar_core.data.load_tokenizer import (
    TOKENIZER,
    TOKENIZER_CONFIG,
    has_tokenizer,
    load_tokenizer,
)
from entrenar_core.io.apr import APRFile, write_apr
from entrenar_core.io.closing import Closing
from entrenar_core.io.files import Written
from entrenar_core.models.stored import StoredModel
from entrenar_core.quant import BlockArray, BlockFormat
from entrenar_core.quant.blocks import ENCODED
from entrenar_core.quant.pieces import quantized

TYPES = [name for name in ENCODED if name != "f64"]
"""What matrices can be stored as; those that are names of floats are arrays in the file."""


class APRPlan(Closing):
    """What the model at `path` becomes as an APR file.

    Matrices get the format `quantization` where their rows are whole blocks of it, and float16
    where they are not; vectors stay float32. `formats` has the format of each tensor.
    Raises UnsupportedError for a format that cannot be written, and what opening the model raises.
    """

    def __init__(self, path: Path, quantization: str) -> None:
        if quantization not in TYPES:
            raise UnsupportedError(
                f"tensors in APR files cannot be {quantization!r}",
                hint=f"they can be {', '.join(TYPES)}",
            )
        self.path = path
        self.model = StoredModel(path, head=None)
        self.formats: dict[str, BlockFormat] = {
            name: _format_of(tuple(parameter.shape), FORMATS[quantization])
            for name, parameter in self.model.model.named_parameters().items()
        }

    def floats(self, name: str) -> np.ndarray:
        """A tensor as it is in the model."""
        return self.model.read(name)

    def release(self, name: str) -> None:
        """Lets the kernel drop what `floats` has read from memory."""
        self.model.release(name)

    def write(self, output: Path, *, progress: Progress) -> Written:
        """Write the file, whole or not at all; returns its size and hash."""
        config = {**self.model.model.config.to_hf(), "architectures": [self.model.model.hf_class]}
        metadata: dict[str, Any] = {"config": config}
        if has_tokenizer(self.path):
            content, settings = load_tokenizer(self.path).to_json()
            metadata |= {TOKENIZER: content, TOKENIZER_CONFIG: settings}
        progress.start("write", len(self.formats))
        try:
            return write_apr(output, _Tensors(self, progress), metadata=metadata)
        finally:
            progress.finish()

    def read_back(self, file: APRFile, name: str) -> BlockArray:
        """A tensor of the written file, in its format."""
        form = self.formats[name]
        if form.name in DTYPES:
            return as_blocks(file.read(name), form.name)
        return file.read_blocks(name)

    def close(self) -> None:
        """Closes the model's files."""
        self.model.close()


class _Tensors(Mapping[str, np.ndarray | BlockArray]):
    """The tensors of a plan, each made when it is asked for."""

    def __init__(self, plan: APRPlan, progress: Progress) -> None:
        self._plan, self._progress = plan, progress

    def __getitem__(self, name: str) -> np.ndarray | BlockArray:
        form = self._plan.formats[name]
        found = quantized(self._plan.floats(name), form)
        self._plan.release(name)
        self._progress.advance()
        return as_array(found) if form.name in DTYPES else found

    def __iter__(self) -> Iterator[str]:
        return iter(self._plan.formats)

    def __len__(self) -> int:
        return len(self._plan.formats)


def as_blocks(array: np.ndarray, form: str) -> BlockArray:
    """An array of floats as one of the blocks of one element that they are."""
    return FORMATS[form].wrap(np.ascontiguousarray(array).reshape(-1).view(np.uint8), array.shape)


def as_array(blocks: BlockArray) -> np.ndarray:
    """Blocks of one element as the array of floats that they are."""
    _, dtype = DTYPES[blocks.form.name]
    return blocks.data.reshape(-1).view(dtype).reshape(blocks.shape)


def _format_of(shape: tuple[int, ...], wanted: BlockFormat) -> BlockFormat:
    if len(shape) < 2:
        return FORMATS["f32"]
    return FORMATS["f16"] if shape[-1] % wanted.block else wanted
