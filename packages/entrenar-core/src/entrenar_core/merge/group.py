"""The tensors that become one: read some rows at a time, as often as a method looks at them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Protocol

import ml_dtypes
import numpy as np

from entrenar_common.errors import UnsupportedError
from entrenar_core import kernels
from entrenar_core.io.worker import busy_workers
from entrenar_core.kernels import merging
from entrenar_core.kernels.narrow import is_narrow
from entrenar_core.kernels.threads import spared

ELEMENTS = 2**18
"""Of a block, unless one row has more: 1 MiB of float32 for each model."""

WORKING = {
    "float32": np.dtype(np.float32),
    "bfloat16": np.dtype(ml_dtypes.bfloat16),
    "float16": np.dtype(np.float16),
}
"""The types that tensors are merged in, by name. Arithmetic is float32; in the other two, every
step is rounded to what they can hold, as mergekit's is."""


class Rows(Protocol):
    """A tensor as rows: (n, length of its last axis), and one row where it has one axis."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def dtype(self) -> np.dtype: ...

    def read(self, part: slice) -> np.ndarray:
        """Some rows of it, (m, columns) of `dtype`."""
        ...

    def release(self) -> None:
        """Let the pages of what was read go."""
        ...


@dataclass(frozen=True, eq=False)
class Held:
    """An array as rows."""

    array: np.ndarray

    @property
    def shape(self) -> tuple[int, ...]:
        return self.array.shape

    @property
    def dtype(self) -> np.dtype:
        return self.array.dtype

    def read(self, part: slice) -> np.ndarray:
        """Some rows, a view."""
        return self.array.reshape(rows_and_columns(self.shape))[part]

    def release(self) -> None:
        """It is memory of its own."""


@dataclass(frozen=True, eq=False)
class Cast:
    """A tensor whose numbers are rounded to another type."""

    rows: Rows
    dtype: np.dtype

    @property
    def shape(self) -> tuple[int, ...]:
        return self.rows.shape

    def read(self, part: slice) -> np.ndarray:
        """Some rows of it, a copy."""
        found = self.rows.read(part)
        wide = kernels.widen(np.ascontiguousarray(found)) if is_narrow(found) else found
        if self.dtype == np.float32:
            return wide
        wide = np.ascontiguousarray(wide, np.float32)
        return kernels.rounded(wide, out=np.empty(wide.shape, self.dtype))

    def release(self) -> None:
        """Let the pages of what was read go."""
        self.rows.release()


@dataclass(frozen=True, eq=False)
class Block:
    """The same rows of all tensors of a group: `stored` (n, rows, columns) is in the working type
    or in float32, the base first, where there is one. The next block overwrites it."""

    part: slice
    stored: np.ndarray
    work: np.dtype
    has_base: bool

    @cached_property
    def inputs(self) -> np.ndarray:
        """All of them in float32, in numbers of the working type; the base first."""
        return _wide(self.stored)

    @cached_property
    def base(self) -> np.ndarray:
        """The rows of the base (rows, columns), float32."""
        assert self.has_base
        return _wide(self.stored[:1])[0]

    @property
    def models(self) -> np.ndarray:
        """The rows of the models but the base (n, rows, columns), float32."""
        return self.inputs[1:] if self.has_base else self.inputs

    @cached_property
    def changes(self) -> np.ndarray:
        """What each model has more than the base (n, rows, columns), float32; the models where
        there is no base."""
        if not self.has_base:
            return self.inputs
        flat = self.stored.reshape(len(self.stored), -1)
        return merging.task_vectors(flat, work=self.work.name).reshape(-1, *self.shape)

    @property
    def shape(self) -> tuple[int, int]:
        return self.stored.shape[1], self.stored.shape[2]


def _wide(stored: np.ndarray) -> np.ndarray:
    if not is_narrow(stored):
        return stored
    return kernels.widen(stored.reshape(-1, stored.shape[-1])).reshape(stored.shape)


@dataclass(frozen=True)
class Whole:
    """What is decided for all tensors of the models together: the least magnitude that is kept of
    each model's changes, and the sign of elements whose changes sum to 0."""

    least: tuple[float, ...]
    sign: int


@dataclass(frozen=True, eq=False)
class Group:
    """Tensors of one shape that become one.

    `models` are those that are not the base, `labels` what messages call them, in the same order.
    `work` is one of WORKING. `key` and `seed` decide what random methods draw.
    Blocks have `elements`, or one row. `whole` is what a method that looks at whole models has
    found there.
    """

    models: Sequence[Rows]
    base: Rows | None
    work: np.dtype
    labels: Sequence[str] = ()
    base_label: str = "base"
    key: str = ""
    seed: int = 0
    elements: int = ELEMENTS
    whole: Whole | None = None

    @property
    def inputs(self) -> list[Rows]:
        """All of them, the base first."""
        return [*([self.base] if self.base is not None else []), *self.models]

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.inputs[0].shape)

    @property
    def size(self) -> int:
        return prod(self.shape)

    @cached_property
    def rows_and_columns(self) -> tuple[int, int]:
        return rows_and_columns(self.shape)

    def blocks(self) -> Iterator[Block]:
        """All rows, some at a time, in order."""
        room = np.empty((len(self.inputs), self._step, self.rows_and_columns[1]), self._kind)
        for part in self._parts():
            stored = room[:, : part.stop - part.start]
            for tensor, found in zip(self.inputs, stored, strict=True):
                found[...] = self._read(tensor, part)
            if not stored.flags.c_contiguous:  # the last one, which has fewer rows
                stored = np.ascontiguousarray(stored)
            yield Block(part, stored, self.work, self.base is not None)
        for tensor in self.inputs:
            tensor.release()

    def flat(self, tensor: Rows) -> Iterator[np.ndarray]:
        """All numbers of one of the inputs, some at a time, in order; of the type of `stored` of
        blocks, and views where they lie in memory like that."""
        for part in self._parts():
            yield np.ascontiguousarray(self._read(tensor, part)).reshape(-1)
        tensor.release()

    @cached_property
    def _kind(self) -> np.dtype:
        as_stored = all(tensor.dtype == self.work for tensor in self.inputs)
        return self.work if as_stored else np.dtype(np.float32)

    @cached_property
    def _step(self) -> int:
        rows, columns = self.rows_and_columns
        return min(max(1, self.elements // max(columns, 1)), max(rows, 1))

    def _parts(self) -> Iterator[slice]:
        """Rows, some at a time. While they are worked on, workers are left their processors."""
        rows = self.rows_and_columns[0]
        for start in range(0, rows, self._step):
            with spared(busy_workers()):
                yield slice(start, min(start + self._step, rows))

    def _read(self, tensor: Rows, part: slice) -> np.ndarray:
        rows = tensor.read(part)
        if rows.dtype == self.work == self._kind:
            return rows
        wide = kernels.widen(np.ascontiguousarray(rows)) if is_narrow(rows) else rows
        return wide if rows.dtype == self.work else rounded_to(wide, self.work)


def rows_and_columns(shape: Sequence[int]) -> tuple[int, int]:
    """What a tensor of `shape` is as rows."""
    columns = shape[-1] if shape else 1
    return prod(shape[:-1]), columns


def rounded_to(rows: np.ndarray, work: np.dtype) -> np.ndarray:
    """float32 rows, each number the nearest that `work` has; `rows` itself for float32."""
    if work == np.float32:
        return rows
    return kernels.widen(kernels.rounded(rows, out=np.empty(rows.shape, work)))


def working_type(types: Sequence[np.dtype]) -> np.dtype:
    """The smallest type that holds all numbers of `types`: float32 for bfloat16 with float16.

    Raises UnsupportedError for types of no floats.
    """
    names = {np.dtype(kind).name for kind in types}
    if unknown := sorted(names - WORKING.keys()):
        raise UnsupportedError(
            f"tensors of {', '.join(unknown)} are not merged",
            hint=f"convert the model to {', '.join(WORKING)} first",
        )
    return WORKING[names.pop()] if len(names) == 1 else WORKING["float32"]
