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
from entrenar_core.convert.pieces import widened

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
class Block:
    """The same rows of all tensors of a group, float32 (rows, columns) in numbers of the working
    type: those of the models but the base, and those of the base."""

    part: slice
    models: list[np.ndarray]
    base: np.ndarray | None

    @property
    def shape(self) -> tuple[int, int]:
        first = self.models[0] if self.models else self.base
        assert first is not None
        return first.shape[0], first.shape[1]


@dataclass(frozen=True, eq=False)
class Group:
    """Tensors of one shape that become one.

    `models` are those that are not the base, `labels` what messages call them, in the same order.
    `work` is one of WORKING. `key` and `seed` decide what random methods draw.
    """

    models: Sequence[Rows]
    base: Rows | None
    work: np.dtype
    labels: Sequence[str] = ()
    base_label: str = "base"
    key: str = ""
    seed: int = 0

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
        rows, columns = self.rows_and_columns
        step = max(1, ELEMENTS // max(columns, 1))
        for start in range(0, rows, step):
            part = slice(start, min(start + step, rows))
            models = [self.floats(tensor, part) for tensor in self.models]
            base = None if self.base is None else self.floats(self.base, part)
            yield Block(part, models, base)
        for tensor in self.inputs:
            tensor.release()

    def floats(self, tensor: Rows, part: slice) -> np.ndarray:
        """Some rows of a tensor as float32, in numbers of the working type."""
        return rounded_to(widened(tensor.read(part)), self.work)


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
