"""Weights as products of integers take them: `kernels.Int8Panels`, of what is stored in 8 bits."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from entrenar_common.errors import ShapeError
from entrenar_core.kernels import Int8Panels
from entrenar_core.kernels.blocks import BLOCK
from entrenar_core.kernels.int8_panels import ZERO, packed
from entrenar_core.quant.base import Format, Stored, format_named
from entrenar_core.quant.blocks import BlockArray
from entrenar_core.quant.integers import Integer


@dataclass(frozen=True)
class Panels(Format):
    """Matrices (out, in) in panels of integers of 8 bits, to compute with: see
    `kernels.matmul_int8`.

    What is stored as q8_0 keeps its integers and its scales, one for each 32 weights. All other
    matrices get integers from −127 to 127 and a float32 scale for each output, as `Integer(8)` has
    it. ShapeError for what is no matrix.
    """

    name: str = "int8 panels"
    holds_output: ClassVar[bool] = True

    def quantize(self, array: np.ndarray) -> "PanelArray":
        if array.ndim != 2:
            raise ShapeError(
                f"an array of shape {array.shape} in {self.name}", hint="they are of matrices"
            )
        stored = Integer(8).quantize(array)
        # of an integer q there is q + 127
        codes = stored.data[: array.size].reshape(array.shape) + np.uint8(ZERO + stored.form.low)
        return PanelArray(self, packed(codes, stored.scale.reshape(len(array), 1)))

    def taken(self, stored: Stored) -> Stored | None:
        if stored.form == self:
            return stored
        if stored.form != format_named("q8_0"):
            return None
        assert isinstance(stored, BlockArray)
        rows, columns = stored.shape
        blocks = stored.data.reshape(rows, columns // BLOCK, -1)
        scales = np.ascontiguousarray(blocks[..., :2]).view(np.float16)[..., 0]
        codes = blocks[..., 2:].reshape(rows, columns) ^ np.uint8(ZERO)
        return PanelArray(self, packed(codes, scales))


class PanelArray(Int8Panels, Stored):
    """A matrix in panels."""

    def __init__(self, form: Panels, panels: Int8Panels) -> None:
        super().__init__(panels.shape, panels.codes, panels.scales)
        self.form = form

    def dequantize(self) -> np.ndarray:
        return self.rows(0, self.shape[0], np.empty(self.shape, np.float32))
