"""The tensors of a base with adapters merged into it, each made when it is written."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import ml_dtypes
import numpy as np

from entrenar_common.progress import NullProgress, Progress
from entrenar_common.text import escape_controls
from entrenar_core.io.dtypes import by_name, by_torch_name
from entrenar_core.lora.base import Base
from entrenar_core.lora.changes import Change, Changes
from entrenar_core.lora.combine import Combination, linear
from entrenar_core.lora.stored import as_float32
from entrenar_core.lora.update import row_pieces, store
from entrenar_core.models.source import GGUFWeights, stored_type

COPIED = 8 * 2**20
"""Bytes of a piece of a tensor that stays as it is."""

RELEASED = 64 * 2**20
"""After so many bytes that were read, the kernel may drop their pages."""

FLOATS = {"f32": np.dtype(np.float32), "f16": np.dtype(np.float16),
          "bf16": np.dtype(ml_dtypes.bfloat16)}  # fmt: skip
"""What weights can be written as."""


class Merged(Mapping[str, "MergedTensor"]):
    """The tensors of `base` with `changes`, by name. `combine` makes one update of those that
    several adapters make to a weight. Floats are written in `dtype`, or as they are stored; of
    weights in few bits, in the type that the config names."""

    def __init__(
        self,
        base: Base,
        changes: Changes,
        *,
        combine: Combination = linear,
        dtype: str | None = None,
        progress: Progress | None = None,
    ) -> None:
        self.base, self.changes, self.combine = base, changes, combine
        self.progress = progress or NullProgress()
        self._dtype = None if dtype is None else FLOATS[dtype]
        if dtype is None and base.is_quantized:
            self._dtype = self._named_dtype()
        self._names = [*base.weights.names(), *changes.added]

    def _named_dtype(self) -> np.dtype:
        if isinstance(self.base.weights, GGUFWeights):
            return FLOATS[stored_type(self.base.path)]
        raw = self.base.raw or {}
        named = raw.get("dtype") or raw.get("torch_dtype")
        found = by_torch_name(named).numpy if isinstance(named, str) else None
        return FLOATS["bf16"] if found not in FLOATS.values() or found is None else found

    @property
    def dtype(self) -> np.dtype | None:
        """The type of all floats, None where each is as it was stored."""
        return self._dtype

    def __getitem__(self, name: str) -> "MergedTensor":
        change = self.changes.by_tensor.get(name)
        if change is None:
            info = self.base.weights.info(name)
            return MergedTensor(self, name, tuple(info.shape), self._type_of(info), None)
        return MergedTensor(self, name, change.shape, self._type(change), change)

    def _type(self, change: Change) -> np.dtype:
        if change.source is not None:
            return self._type_of(self.base.weights.info(change.source))
        assert change.whole is not None
        adapter, parameter = change.whole
        return self._type_of(adapter.info(adapter.whole[parameter]))

    def _type_of(self, info: Any) -> np.dtype:
        if self.base.is_quantized and self._dtype is not None:
            return self._dtype
        found = by_name(str(info.dtype)).numpy
        assert found is not None  # what has no such type was refused, or cannot be read
        is_float = found.kind == "f" or found.name == "bfloat16"
        return self._dtype if is_float and self._dtype is not None else found

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def floats(self, name: str) -> np.ndarray:
        """A whole tensor: float32 where it changes, else as the base reads it."""
        change = self.changes.by_tensor.get(name)
        if change is None:
            return self.base.weights.read(name)
        return np.concatenate(list(_changed(self, change, np.dtype(np.float32)))).reshape(
            change.shape
        )


@dataclass(frozen=True)
class MergedTensor:
    """One tensor as it will be written; see `io.streamed`."""

    merged: Merged
    name: str
    shape: tuple[int, ...]
    dtype: np.dtype
    change: Change | None

    @property
    def nbytes(self) -> int:
        return prod(self.shape) * self.dtype.itemsize

    def pieces(self) -> Iterator[np.ndarray]:
        """Its elements in order, in arrays of some rows.

        Raises NumericsError, naming the tensor, for a result that is not finite.
        """
        base = self.merged.base
        if self.change is None:
            yield from _as_it_is(base, self.name, self.dtype)
        else:
            yield from _changed(self.merged, self.change, self.dtype)
        self.merged.progress.advance()


def _as_it_is(base: Base, name: str, dtype: np.dtype) -> Iterator[np.ndarray]:
    array = base.weights.read(name)
    if array.dtype != dtype:
        yield from _cast(array, dtype, name)
    else:
        flat = np.ascontiguousarray(array).reshape(-1)
        step, read = COPIED // flat.itemsize, 0
        for start in range(0, flat.size, step):
            yield flat[start : start + step]
            read += COPIED
            if read % RELEASED == 0:
                base.weights.release(name)
    base.weights.release(name)


def _changed(merged: Merged, change: Change, dtype: np.dtype) -> Iterator[np.ndarray]:
    base = merged.base
    where = escape_controls(change.tensor)
    if change.whole is not None:
        adapter, parameter = change.whole
        array = adapter.whole_tensor(parameter)
    else:
        assert change.source is not None
        array = base.weights.read(change.source)
    parts = change.updates()
    if parts:
        update = merged.combine(change.modules[0][1], parts)
        yield from update.merged_pieces(array, dtype, where=where)
    elif change.is_bias:
        added = as_float32(array).reshape(1, -1) + change.bias()
        yield from _cast(added, dtype, where)
    else:
        yield from _cast(array, dtype, where)
    if change.source is not None:
        base.weights.release(change.source)


def _cast(array: np.ndarray, dtype: np.dtype, where: str) -> Iterator[np.ndarray]:
    """An array in another type; NumericsError where something is not finite."""
    rows = array.reshape(-1, array.shape[-1]) if array.ndim > 1 else array.reshape(1, -1)
    for part in row_pieces(rows):
        wide = as_float32(rows[part])
        found = wide if dtype == np.float32 else np.empty(wide.shape, dtype)
        store(wide, found, part, where)
        yield found
