"""NF4, the 4-bit format of QLoRA, with its scales kept in 8 bits or in float32.

Bytes are those of bitsandbytes. A scale belongs to `block` elements in C order, across rows. With
double quantization the scales, less their mean, are stored in blocks of 256 in the dynamic 8-bit
code of `kernels.blockwise`.
Source: Dettmers et al. 2023, arXiv:2305.14314.
"""

from dataclasses import dataclass

import ml_dtypes
import numpy as np

from entrenar_common.errors import ConfigError
from entrenar_core import kernels
from entrenar_core.kernels.blockwise import BLOCK as NESTED_BLOCK
from entrenar_core.kernels.blockwise import dynamic_map
from entrenar_core.quant.base import Format, Stored, as_finite_float32, register

BLOCKS = (32, 64, 128, 256, 512, 1024, 2048, 4096)
"""How long a block may be: what bitsandbytes reads."""

DTYPES = {
    "float32": np.dtype(np.float32),
    "float16": np.dtype(np.float16),
    "bfloat16": np.dtype(ml_dtypes.bfloat16),
}
"""What the weights were before, by name: the numbers that come out are rounded to it."""


@dataclass(frozen=True)
class NF4(Format):
    """Blocks of `block` elements; `double` keeps their scales in 8 bits: 4.127 bits per weight for
    blocks of 64 instead of 4.5.

    Raises ConfigError for a length of blocks that bitsandbytes does not know.
    """

    block: int = 64
    double: bool = True

    def __post_init__(self) -> None:
        if self.block not in BLOCKS:
            raise ConfigError(
                f"NF4 in blocks of {self.block}", hint=f"use one of {', '.join(map(str, BLOCKS))}"
            )

    @property
    def name(self) -> str:  # pyright: ignore[reportIncompatibleVariableOverride]
        own = "" if self.block == 64 else f"-{self.block}"
        return f"nf4{own}" if self.double else f"nf4-single{own}"

    def quantize(self, array: np.ndarray) -> "NF4Array":
        array = np.asarray(array)
        flat = as_finite_float32(array, self.name).reshape(-1)
        codes, scales = kernels.quantize_nf4(flat, block=self.block)
        kept = Scales.of(scales) if self.double else Scales(scales)
        dtype = array.dtype.name if array.dtype.name in DTYPES else "float32"
        return NF4Array(self, array.shape, codes, kept, dtype)

    def keeps(self, other: Format) -> bool:
        """Another length of blocks, or scales in other bits, are no reason to round again."""
        return isinstance(other, NF4)


@dataclass(frozen=True, eq=False)
class Scales:
    """The scales of the blocks: float32 in `codes` themselves, or 8-bit codes.

    A code c in block b of 256 (or `block`) stands for map[c] · absmax[b] + offset.
    """

    codes: np.ndarray
    absmax: np.ndarray | None = None
    map: np.ndarray | None = None
    offset: float = 0.0
    block: int = NESTED_BLOCK

    @classmethod
    def of(cls, scales: np.ndarray) -> "Scales":
        """`scales` in 8 bits, the offset being their mean."""
        # summed in float64: the order of a sum in float32 would show in the last bit
        mean = scales.mean(dtype=np.float64) if scales.size else 0
        offset = float(np.float32(mean))
        codes, absmax = kernels.quantize_blockwise(scales - np.float32(offset), signed=True)
        return cls(codes, absmax, dynamic_map(True), offset)

    def values(self) -> np.ndarray:
        """The scales as float32."""
        if self.absmax is None or self.map is None:
            return self.codes
        sizes = np.repeat(self.absmax, self.block)[: self.codes.size]
        return self.map[self.codes] * sizes + np.float32(self.offset)

    @property
    def nbytes(self) -> int:
        """The bytes of codes and absmax, and of the offset."""
        return self.codes.nbytes + (0 if self.absmax is None else self.absmax.nbytes + 4)


@dataclass(frozen=True, eq=False)
class NF4Array(Stored):
    """An array in NF4: `codes` (⌈n/2⌉,) uint8 and the scales of ⌈n/block⌉ blocks.

    `dtype` is that of the floats before: what comes out is rounded to it and then widened, as
    bitsandbytes computes with it.
    """

    form: NF4  # pyright: ignore[reportIncompatibleVariableOverride]
    shape: tuple[int, ...]
    codes: np.ndarray
    scales: Scales
    dtype: str = "float32"

    @property
    def nbytes(self) -> int:
        return self.codes.nbytes + self.scales.nbytes

    def dequantize(self) -> np.ndarray:
        return self._part(0, np.empty(self.size, np.float32)).reshape(self.shape)

    def rows(self, low: int, high: int, out: np.ndarray) -> np.ndarray:
        assert len(out) == high - low
        self._part(low * self.shape[1], out.reshape(-1))
        return out

    def _part(self, start: int, out: np.ndarray) -> np.ndarray:
        """The elements from `start` on, as many as `out` has."""
        place = {"block": self.form.block, "dtype": self.dtype, "start": start, "out": out}
        scales = self.scales
        if scales.absmax is None or scales.map is None:
            return kernels.nf4_part(self.codes, scales.codes, **place)
        return kernels.nested_nf4_part(
            self.codes, scales.codes, scales.absmax, scales.map, nested=scales.block,
            offset=scales.offset, **place,
        )  # fmt: skip


register(NF4())
register(NF4(double=False))
