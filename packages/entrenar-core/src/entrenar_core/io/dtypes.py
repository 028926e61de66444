"""The one table of element types: names in files, numpy types, bits, and names in configs."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, cached_property
from typing import TYPE_CHECKING

from entrenar_common.errors import UnsupportedError
from entrenar_common.text import escape_controls, nearest

if TYPE_CHECKING:  # who reads headers alone does not wait for numpy
    import numpy as np


@dataclass(frozen=True)
class DType:
    """One element type.

    `name` is safetensors' name, `scalar` that of numpy's or ml_dtypes' type, None where no array
    can hold it (elements smaller than a byte), `torch_name` is what Hugging Face configs write as
    `torch_dtype`.
    """

    name: str
    scalar: str | None
    bits: int
    torch_name: str | None = None

    @cached_property
    def numpy(self) -> np.dtype | None:
        """The type of arrays of it, None where there is none."""
        if self.scalar is None:
            return None
        import ml_dtypes
        import numpy as np

        return np.dtype(getattr(ml_dtypes, self.scalar, self.scalar))

    def __str__(self) -> str:
        return self.name


# In the order of safetensors' own list: its writer sorts tensors by it, last first.
DTYPES: tuple[DType, ...] = (
    DType("BOOL", "bool", 8, "bool"),
    DType("F4", None, 4),
    DType("F6_E2M3", None, 6),
    DType("F6_E3M2", None, 6),
    DType("U8", "uint8", 8, "uint8"),
    DType("I8", "int8", 8, "int8"),
    DType("F8_E5M2", "float8_e5m2", 8, "float8_e5m2"),
    DType("F8_E4M3", "float8_e4m3fn", 8, "float8_e4m3fn"),
    DType("F8_E8M0", "float8_e8m0fnu", 8, "float8_e8m0fnu"),
    DType("F8_E4M3FNUZ", "float8_e4m3fnuz", 8, "float8_e4m3fnuz"),
    DType("F8_E5M2FNUZ", "float8_e5m2fnuz", 8, "float8_e5m2fnuz"),
    DType("I16", "int16", 16, "int16"),
    DType("U16", "uint16", 16, "uint16"),
    DType("F16", "float16", 16, "float16"),
    DType("BF16", "bfloat16", 16, "bfloat16"),
    DType("I32", "int32", 32, "int32"),
    DType("U32", "uint32", 32, "uint32"),
    DType("F32", "float32", 32, "float32"),
    DType("C64", "complex64", 64, "complex64"),
    DType("F64", "float64", 64, "float64"),
    DType("I64", "int64", 64, "int64"),
    DType("U64", "uint64", 64, "uint64"),
)

_BY_NAME = {d.name: d for d in DTYPES}
_BY_TORCH_NAME = {d.torch_name: d for d in DTYPES if d.torch_name is not None}
_ORDER = {d: i for i, d in enumerate(DTYPES)}


def by_name(name: str) -> DType:
    """The type that safetensors calls `name`; UnsupportedError when there is none."""
    return _look_up(_BY_NAME, name, "element type")


def by_torch_name(name: str) -> DType:
    """The type a config calls `name`, with or without `torch.`; UnsupportedError if unknown."""
    return _look_up(_BY_TORCH_NAME, name.removeprefix("torch."), "torch_dtype")


@cache
def _by_numpy() -> dict[np.dtype, DType]:
    return {d.numpy: d for d in DTYPES if d.numpy is not None}


def by_numpy(dtype: np.dtype | type) -> DType:
    """The type of a numpy array, of any byte order; UnsupportedError when files cannot hold it."""
    import numpy as np

    dtype, known = np.dtype(dtype), _by_numpy()
    # ml_dtypes' types have no byte order, and newbyteorder would make them unequal to themselves
    found = known.get(dtype) or known.get(dtype.newbyteorder("="))
    if found is None:
        raise UnsupportedError(
            f"numpy type {dtype} has no counterpart in safetensors files",
            hint=f"convert it to one of {', '.join(_BY_NAME)}",
        )
    return found


def order(dtype: DType) -> int:
    """The place of a type in safetensors' list."""
    return _ORDER[dtype]


def _look_up(table: dict[str, DType], name: str, what: str) -> DType:
    try:
        return table[name]
    except KeyError:
        close = nearest(name, list(table))
        raise UnsupportedError(
            f"unknown {what} '{escape_controls(name)}'",
            hint=f"did you mean {close}?" if close else f"known: {', '.join(table)}",
        ) from None
