"""The one table of element types: names in files, numpy types, bits, and names in configs."""

from dataclasses import dataclass

import ml_dtypes
import numpy as np

from entrenar_common.errors import UnsupportedError
from entrenar_common.text import escape_controls, nearest


@dataclass(frozen=True)
class DType:
    """One element type.

    `name` is safetensors' name, `numpy` is None where no array can hold it (elements smaller than
    a byte), `torch_name` is what Hugging Face configs write as `torch_dtype`.
    """

    name: str
    numpy: np.dtype | None
    bits: int
    torch_name: str | None = None

    def __str__(self) -> str:
        return self.name


def _row(name: str, scalar: type | None, bits: int, torch_name: str | None = None) -> DType:
    return DType(name, None if scalar is None else np.dtype(scalar), bits, torch_name)


# In the order of safetensors' own list: its writer sorts tensors by it, last first.
DTYPES: tuple[DType, ...] = (
    _row("BOOL", np.bool_, 8, "bool"),
    _row("F4", None, 4),
    _row("F6_E2M3", None, 6),
    _row("F6_E3M2", None, 6),
    _row("U8", np.uint8, 8, "uint8"),
    _row("I8", np.int8, 8, "int8"),
    _row("F8_E5M2", ml_dtypes.float8_e5m2, 8, "float8_e5m2"),
    _row("F8_E4M3", ml_dtypes.float8_e4m3fn, 8, "float8_e4m3fn"),
    _row("F8_E8M0", ml_dtypes.float8_e8m0fnu, 8, "float8_e8m0fnu"),
    _row("F8_E4M3FNUZ", ml_dtypes.float8_e4m3fnuz, 8, "float8_e4m3fnuz"),
    _row("F8_E5M2FNUZ", ml_dtypes.float8_e5m2fnuz, 8, "float8_e5m2fnuz"),
    _row("I16", np.int16, 16, "int16"),
    _row("U16", np.uint16, 16, "uint16"),
    _row("F16", np.float16, 16, "float16"),
    _row("BF16", ml_dtypes.bfloat16, 16, "bfloat16"),
    _row("I32", np.int32, 32, "int32"),
    _row("U32", np.uint32, 32, "uint32"),
    _row("F32", np.float32, 32, "float32"),
    _row("C64", np.complex64, 64, "complex64"),
    _row("F64", np.float64, 64, "float64"),
    _row("I64", np.int64, 64, "int64"),
    _row("U64", np.uint64, 64, "uint64"),
)

_BY_NAME = {d.name: d for d in DTYPES}
_BY_NUMPY = {d.numpy: d for d in DTYPES if d.numpy is not None}
_BY_TORCH_NAME = {d.torch_name: d for d in DTYPES if d.torch_name is not None}
_ORDER = {d: i for i, d in enumerate(DTYPES)}


def by_name(name: str) -> DType:
    """The type that safetensors calls `name`; UnsupportedError when there is none."""
    return _look_up(_BY_NAME, name, "element type")


def by_torch_name(name: str) -> DType:
    """The type a config calls `name`, with or without `torch.`; UnsupportedError if unknown."""
    return _look_up(_BY_TORCH_NAME, name.removeprefix("torch."), "torch_dtype")


def by_numpy(dtype: np.dtype | type) -> DType:
    """The type of a numpy array, of any byte order; UnsupportedError when files cannot hold it."""
    dtype = np.dtype(dtype)
    # ml_dtypes' types have no byte order, and newbyteorder would make them unequal to themselves
    found = _BY_NUMPY.get(dtype) or _BY_NUMPY.get(dtype.newbyteorder("="))
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
