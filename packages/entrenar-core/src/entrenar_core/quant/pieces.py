"""Arrays in pieces of some rows: what is widened and quantized at a time fits in the caches."""

from collections.abc import Iterator

import numpy as np

from entrenar_core import kernels
from entrenar_core.kernels.narrow import is_narrow
from entrenar_core.quant.blocks import BlockArray, BlockFormat

PIECE = 2**18
"""Elements of a piece: 1 MiB of float32."""


def rows_of(array: np.ndarray) -> np.ndarray:
    """`array` as rows (n, length of its last axis), a view where that is possible."""
    return array.reshape(-1, array.shape[-1]) if array.ndim else array.reshape(1, 1)


def pieces(rows: int, columns: int) -> Iterator[slice]:
    """Slices of some rows each, all of them together."""
    step = max(1, PIECE // max(columns, 1))
    for start in range(0, rows, step):
        yield slice(start, min(start + step, rows))


def widened(rows: np.ndarray) -> np.ndarray:
    """Rows of any float type as contiguous float32."""
    if is_narrow(rows):
        return kernels.widen(np.ascontiguousarray(rows))
    return np.ascontiguousarray(rows, np.float32)


def quantized(array: np.ndarray, form: BlockFormat) -> BlockArray:
    """`array`, of any float type, in `form`, with no wide copy of the whole.

    Raises NumericsError for NaN or infinity, ShapeError for rows of no whole blocks.
    """
    if form.takes(array):
        return form.quantize(array)
    rows = rows_of(array)
    data = np.empty((len(rows), form.row_bytes(rows.shape[1])), np.uint8)
    for part in pieces(*rows.shape):
        data[part] = form.quantize(widened(rows[part])).data
    return form.wrap(data, array.shape)
