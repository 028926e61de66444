"""A model that is merged, as it lies on a disk, an adapter on top of it included."""

import re
from collections.abc import Collection, Mapping, Sequence
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from entrenar_common.errors import ConfigError, UnsupportedError
from entrenar_common.text import escape_controls
from entrenar_core.io.closing import Closing
from entrenar_core.io.dtypes import by_name
from entrenar_core.io.hub import resolve_model
from entrenar_core.lora.base import HEADS, TABLES, TORCH_FILES, Base
from entrenar_core.lora.changes import Weighted, changes
from entrenar_core.lora.merged import Merged
from entrenar_core.lora.stored import StoredAdapter
from entrenar_core.merge.group import rows_and_columns
from entrenar_core.merge.reference import ModelRef

MAPPED = 16 * 2**20
"""Bytes of a tensor that is mapped after which the pages that were read are let go."""

_LAYER = re.compile(r"(?:^|\.)(?:layers?|h|blocks?)\.(\d+)\.")
_HEAD_PARTS = ("lm_head.", "cls.predictions.decoder.", "cls.predictions.bias", "vocab_projector.")


class StoredRows:
    """A tensor of a model as rows (see `merge.group`); whole in memory, from the first read to
    `release`, unless it is mapped from a file."""

    def __init__(self, model: "Input", name: str) -> None:
        self.shape = model.shape(name)
        self.dtype = model.type_of(name)
        self._model, self._name = model, name
        self._rows: np.ndarray | None = None
        self._read = 0

    def read(self, part: slice) -> np.ndarray:
        """Some rows; a view where the file is mapped."""
        if self._rows is None:
            self._rows = self._model.read(self._name).reshape(rows_and_columns(self.shape))
        elif self._model.is_mapped and self._read > MAPPED:
            self._model.let_go(self._name)
            self._read = 0
        rows = self._rows[part]
        self._read += rows.nbytes
        return rows

    def release(self) -> None:
        """Let it go; a later read brings it back."""
        self._rows, self._read = None, 0
        self._model.let_go(self._name)


class Input(Closing):
    """The model that `ref` means, with its adapter merged into it tensor by tensor.

    A Hugging Face folder, a file of tensors (safetensors, or of torch.save) or a GGUF file.
    Raises what opening them raises.
    """

    def __init__(self, ref: ModelRef) -> None:
        self.ref = ref
        self._stack = ExitStack()
        self._adapter_files: list[Path] = []
        try:
            self.path = _resolved(ref.path, ref.revision)
            self.base = self._stack.enter_context(Base(self.path))
            self._merged = self._with_adapter()
        except BaseException:
            self._stack.close()
            raise

    def _with_adapter(self) -> Merged | None:
        if self.ref.adapter is None:
            return None
        place = _resolved(self.ref.adapter.path, self.ref.adapter.revision)
        adapter = self._stack.enter_context(StoredAdapter(place))
        self._adapter_files = adapter.paths
        return Merged(self.base, changes(self.base, [Weighted(adapter)]))

    @property
    def raw(self) -> Mapping[str, Any]:
        """The keys of its config.json; none for a lone file."""
        return self.base.raw or {}

    @property
    def paths(self) -> list[Path]:
        """The files that are read."""
        return [*self.base.weights.paths, *self._adapter_files]

    @property
    def is_mapped(self) -> bool:
        """Whether tensors are read as views of files."""
        return self._merged is None and not self.base.is_quantized and not self._is_torch

    @cached_property
    def _is_torch(self) -> bool:
        return any(path.suffix in TORCH_FILES for path in self.base.weights.paths)

    @property
    def model_type(self) -> str:
        """Its architecture, as its config calls it; "" without a config."""
        return str(self.raw.get("model_type", ""))

    @cached_property
    def layers(self) -> int:
        """How many layers it has."""
        found = (_LAYER.search(name) for name in self.names())
        return 1 + max((int(match[1]) for match in found if match), default=-1)

    @cached_property
    def vocabulary(self) -> Collection[str]:
        """Its tensors with a row, or a number, for each token."""
        table = self._table
        rows = self.shape(table)[0] if table else -1
        heads = [n for n in self.names() if any(part in n for part in _HEAD_PARTS)]
        found = [n for n in heads if self.shape(n) and self.shape(n)[0] == rows]
        return {*found, *([table] if table else [])}

    @property
    def _table(self) -> str | None:
        ends = tuple(f".{name}.weight" for name in TABLES)
        return next((name for name in self.names() if f".{name}".endswith(ends)), None)

    @cached_property
    def tied(self) -> Mapping[str, str]:
        """The output's projection, where it is the table of tokens."""
        head, table = f"{HEADS[0]}.weight", self._table
        named = self.raw.get("architectures") or ()
        has_output = any("CausalLM" in str(n) or "LMHead" in str(n) for n in named)
        if not has_output or table is None or head in self.names():
            return {}
        return {head: table}

    @cached_property
    def _names(self) -> list[str]:
        return list(self._merged if self._merged is not None else self.base.weights.names())

    def names(self) -> Sequence[str]:
        """The names of its tensors."""
        return self._names

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a tensor."""
        if self._merged is not None:
            return self._merged[name].shape
        return tuple(self.base.weights.info(name).shape)

    def dtype(self, name: str) -> str:
        """NumPy's name for what a tensor's numbers are read as."""
        return self.type_of(name).name

    def type_of(self, name: str) -> np.dtype:
        """What a tensor's numbers are read as: those in few bits as float32."""
        if self._merged is not None:
            return self._merged[name].dtype
        if self.base.is_quantized:
            return np.dtype(np.float32)
        kind = by_name(str(self.base.weights.info(name).dtype)).numpy
        if kind is None:
            raise UnsupportedError(
                f"{self.ref}: {escape_controls(name)} is of {self.base.weights.info(name).dtype}",
                hint="convert the model to a float type first",
            )
        return kind

    def read(self, name: str) -> np.ndarray:
        """A whole tensor; a view where it is mapped."""
        if self._merged is None:
            return self.base.weights.read(name)
        tensor = self._merged[name]
        pieces = [piece.reshape(-1) for piece in tensor.pieces()]
        return np.concatenate(pieces).reshape(tensor.shape)

    def let_go(self, name: str) -> None:
        """Let the pages of a tensor that was read go."""
        if self._merged is None:
            self.base.weights.release(name)

    def close(self) -> None:
        """Closes the files."""
        self._stack.close()


def _resolved(path: str, revision: str | None) -> Path:
    found = Path(path).expanduser()
    return found if revision is None and found.is_file() else resolve_model(path, revision)


def open_inputs(refs: Sequence[ModelRef], stack: ExitStack) -> dict[ModelRef, Input]:
    """The models, opened; closed with `stack`. Raises ConfigError for two that are the same."""
    found: dict[ModelRef, Input] = {}
    for ref in refs:
        found[ref] = stack.enter_context(Input(ref))
    places: dict[tuple[Path, str], ModelRef] = {}
    for ref, opened in found.items():
        place = opened.path.resolve(), str(ref.adapter)
        if place in places:
            raise ConfigError(
                f"{ref} and {places[place]} are the same model", hint="give each model once"
            )
        places[place] = ref
    return found
