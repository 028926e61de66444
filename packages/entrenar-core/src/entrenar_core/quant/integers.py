"""Integers of 2 to 8 bits with a scale, and a zero point if they are not symmetric.

Symmetric: q from −(2^(b−1) − 1) to 2^(b−1) − 1 and scale = max|w| / (2^(b−1) − 1). Asymmetric: q
from 0 to 2^b − 1, scale = (max − min) / (2^b − 1) of a range widened to hold 0, and a whole zero
point, so that 0 stays 0. w ≈ (q − zero)·scale.
Source: Jacob et al. 2018, arXiv:1712.05877.
"""

from dataclasses import dataclass, field

import numpy as np

from entrenar_common.errors import ConfigError
from entrenar_core import kernels
from entrenar_core.quant.base import Format, Stored, as_finite_float32, register
from entrenar_core.quant.bits import pack, unpack
from entrenar_core.quant.grain import Grain

WIDTHS = range(2, 9)


@dataclass(frozen=True)
class Integer(Format):
    """`bits` from 2 to 8; by default symmetric, with a scale for each index of axis 0.

    Called int2 to int8, and uint2 to uint8 where asymmetric, with the grain's suffix. Raises
    ConfigError for another width.

    >>> Integer(4).name, Integer(8, symmetric=False).name, Integer(4, grain=Grain("group", 32)).name
    ('int4', 'uint8', 'int4-g32')
    """

    bits: int
    symmetric: bool = True
    grain: Grain = field(default_factory=Grain)

    def __post_init__(self) -> None:
        if self.bits not in WIDTHS:
            raise ConfigError(f"integers of {self.bits} bits", hint="use 2 to 8 bits")

    @property
    def name(self) -> str:  # pyright: ignore[reportIncompatibleVariableOverride]
        return f"{'int' if self.symmetric else 'uint'}{self.bits}{self.grain.suffix}"

    @property
    def low(self) -> int:
        """The smallest q."""
        return -self.high if self.symmetric else 0

    @property
    def high(self) -> int:
        """The largest q."""
        return 2 ** (self.bits - 1) - 1 if self.symmetric else 2**self.bits - 1

    def parameters(self, low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Scales and zero points, of the dtype of `low` and `high`: for numbers between these."""
        if self.symmetric:
            scale = np.maximum(np.abs(low), np.abs(high)) / low.dtype.type(self.high)
            return _positive(scale), np.zeros_like(scale)
        low, high = np.minimum(low, 0), np.maximum(high, 0)
        levels = low.dtype.type(self.high)
        with np.errstate(over="ignore"):
            scale = (high - low) / levels
        scale = _positive(np.where(np.isinf(scale), high / levels - low / levels, scale))
        return scale, np.clip(np.rint(-low / scale), 0, levels)

    def quantize(self, array: np.ndarray) -> "IntegerArray":
        wide = as_finite_float32(array, self.name)
        blocks = self.grain.blocks(wide)
        scale, zero = self.parameters(blocks.min(axis=1), blocks.max(axis=1))
        return self.quantize_with(wide, scale, zero)

    def quantize_with(
        self, array: np.ndarray, scale: np.ndarray, zero: np.ndarray
    ) -> "IntegerArray":
        """`array` with scales and zero points from elsewhere; what is out of range is clipped."""
        blocks = self.grain.blocks(as_finite_float32(array, self.name))
        scale, zero = scale.astype(np.float32), zero.astype(np.float32)
        codes = kernels.affine_codes(blocks, scale, zero, low=self.low, high=self.high)
        data = pack(codes.reshape(-1), self.bits)
        kept = None if self.symmetric else zero.astype(np.uint8)
        return IntegerArray(self, array.shape, data, scale, kept)


@dataclass(frozen=True, eq=False)
class IntegerArray(Stored):
    """Integers: `data` has q − form.low of all blocks (see `bits.pack`), `scale` a float32 for each
    block, `zero` a uint8, None where symmetric. Blocks are in the order of `Grain.blocks`."""

    form: Integer  # pyright: ignore[reportIncompatibleVariableOverride]
    shape: tuple[int, ...]
    data: np.ndarray
    scale: np.ndarray
    zero: np.ndarray | None = None

    @property
    def nbytes(self) -> int:
        return self.data.nbytes + self.scale.nbytes + (0 if self.zero is None else self.zero.nbytes)

    def integers(self) -> np.ndarray:
        """q, int16 of `shape`."""
        return self.form.grain.restore(self._codes().astype(np.int16) + self.form.low, self.shape)

    def dequantize(self) -> np.ndarray:
        zero = np.zeros_like(self.scale) if self.zero is None else self.zero.astype(np.float32)
        values = kernels.affine_values(self._codes(), self.scale, zero, low=self.form.low)
        return np.ascontiguousarray(self.form.grain.restore(values, self.shape))

    def rows(self, low: int, high: int, out: np.ndarray) -> np.ndarray:
        assert len(out) == high - low
        columns = self.shape[1]
        if self.form.grain.axis % 2 == 0:
            self._part(low * columns, out.reshape(-1))
            return out
        # blocks run down the columns, and each of these is an end in itself
        column = np.empty(high - low, np.float32)
        for index in range(columns):
            out[:, index] = self._part(index * self.shape[0] + low, column)
        return out

    def _part(self, start: int, out: np.ndarray) -> np.ndarray:
        """The elements from `start` on, in the order of the blocks, as many as `out` has."""
        scales = len(self.scale)
        zero = np.broadcast_to(np.uint8(0), scales) if self.zero is None else self.zero
        return kernels.affine_part(
            self.data, self.scale, zero, bits=self.form.bits, low=self.form.low,
            length=self.size // max(scales, 1), start=start, out=out,
        )  # fmt: skip

    def _codes(self) -> np.ndarray:
        return unpack(self.data, self.form.bits, self.size).reshape(
            len(self.scale), self.size // max(len(self.scale), 1)
        )


def _positive(scale: np.ndarray) -> np.ndarray:
    """`scale` with 1 where it is 0: of zeros alone any scale will do."""
    return np.where(scale > 0, scale, scale.dtype.type(1))


for _bits in WIDTHS:
    for _grain in (Grain(), Grain("tensor")):
        register(Integer(_bits, grain=_grain))
        register(Integer(_bits, symmetric=False, grain=_grain))
