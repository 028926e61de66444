"""The float types that weights are written as, and numbers brought into one of them."""

from collections.abc import Iterator

import ml_dtypes
import numpy as np

from entrenar_common.errors import NumericsError, UnsupportedError
from entrenar_core import kernels
from entrenar_core.quant.pieces import PIECE, widened

DTYPES = {
    "f32": ("float32", np.dtype(np.float32)),
    "f16": ("float16", np.dtype(np.float16)),
    "bf16": ("bfloat16", np.dtype(ml_dtypes.bfloat16)),
}
"""What weights can be written as: the name in a config, and numpy's type."""

SHORT = {dtype: short for short, (_, dtype) in DTYPES.items()}
"""Numpy's type → its name in DTYPES."""

_COLUMNS = 2**10
"""Elements of a row of a piece: kernels share out rows, not elements."""


def dtype_named(name: str) -> tuple[str, np.dtype]:
    """The row of DTYPES; UnsupportedError for another name."""
    if name not in DTYPES:
        raise UnsupportedError(
            f"files of tensors hold floats, not {name!r}",
            hint=f"give one of {', '.join(DTYPES)}, or write GGUF",
        )
    return DTYPES[name]


def cast_pieces(array: np.ndarray, dtype: np.dtype, where: str) -> Iterator[np.ndarray]:
    """The elements of `array` as `dtype` in C order, in flat arrays; those that are `dtype` already
    as views.

    Raises NumericsError, which names `where`, for a finite number that would become infinite.
    """
    flat = np.ascontiguousarray(array).reshape(-1)
    for start in range(0, flat.size, PIECE):
        part = flat[start : start + PIECE]
        yield part if part.dtype == dtype else _cast(part, dtype, where)


def cast(array: np.ndarray, dtype: np.dtype, where: str) -> np.ndarray:
    """`array` as `dtype`; see `cast_pieces`."""
    if array.dtype == dtype:
        return array
    found, start = np.empty(array.size, dtype), 0
    for piece in cast_pieces(array, dtype, where):
        found[start : start + piece.size] = piece
        start += piece.size
    return found.reshape(array.shape)


def _cast(part: np.ndarray, dtype: np.dtype, where: str) -> np.ndarray:
    if part.dtype == np.float64:  # to float16 it is rounded once, not by way of float32
        wide = part
        with np.errstate(over="ignore"):
            found = part.astype(dtype)
    else:
        wide = widened(_rows(part)).reshape(-1)
        found = np.empty(part.size, dtype)
        kernels.rounded(_rows(wide), out=_rows(found))
    lost = ~np.isfinite(found) & np.isfinite(wide)
    if lost.any():
        raise NumericsError(
            f"{where}: {float(np.abs(wide[lost]).max()):.4g} does not fit {dtype}",
            hint="write f32 or bf16" if dtype == np.float16 else "leave the types as they are",
        )
    return found


def _rows(flat: np.ndarray) -> np.ndarray:
    """A view of a flat array as rows."""
    return flat.reshape(1, -1) if flat.size % _COLUMNS else flat.reshape(-1, _COLUMNS)
