"""ggml's types: rows of blocks, each with its own scale, byte for byte as GGUF files have them.

Layouts: https://github.com/ggml-org/llama.cpp, `ggml/src/ggml-common.h`; all numbers little-endian.
The kernels (`kernels.blocks`, `kernels.k_blocks`) say what the bytes of a block mean.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from math import prod
from typing import Any

import ml_dtypes
import numpy as np

from entrenar_common.errors import NumericsError, ShapeError, UnsupportedError
from entrenar_core import kernels
from entrenar_core.quant.base import Format, Stored, as_finite_float32, register


@dataclass(frozen=True)
class BlockFormat(Format):
    """A type of ggml: `block` elements of a row are stored in `block_bytes` bytes.

    `number` is the type's number in GGUF files. `encode` takes float32 (rows, n) and returns uint8
    (rows, bytes), `decode` the reverse, into the array `out` if it is given. A type without them is
    known by its size only: files that have it can be listed, and its tensors not read. `halves`
    says at which bytes of a block there is a float16, and `peaks` that the first of them follows
    from the largest magnitude: so it shows a number that is not finite, and `encode` takes bfloat16
    too.
    """

    name: str
    number: int
    block: int
    block_bytes: int
    encode: Callable[[np.ndarray], np.ndarray] | None = field(default=None, repr=False)
    decode: Callable[..., np.ndarray] | None = field(default=None, repr=False)
    halves: tuple[int, ...] = ()
    peaks: bool = False

    @property
    def bits_per_weight(self) -> float:
        """Bits of a whole block for each of its elements."""
        return 8 * self.block_bytes / self.block

    def row_bytes(self, elements: int) -> int:
        """The bytes of a row of `elements`; ShapeError where it is no whole number of blocks."""
        if elements % self.block:
            raise ShapeError(
                f"a row of {elements} elements is no whole number of {self.name} blocks of "
                f"{self.block}",
                hint="choose a format with smaller blocks, or f16",
            )
        return elements // self.block * self.block_bytes

    def takes(self, array: np.ndarray) -> bool:
        """Whether `quantize` needs no copy of this array."""
        return self.peaks and np.asarray(array).dtype in (np.float32, ml_dtypes.bfloat16)

    def quantize(self, array: np.ndarray) -> "BlockArray":
        if self.encode is None:
            raise UnsupportedError(
                f"nothing here writes {self.name}", hint=f"formats: {', '.join(ENCODED)}"
            )
        shape = np.shape(array)
        row_bytes = self.row_bytes(shape[-1] if shape else 1)
        rows = prod(shape[:-1])  # not -1, which numpy cannot tell where a row is empty
        # where the blocks' scales show it, another look at every number can be spared
        if self.takes(array):
            checked = np.ascontiguousarray(array)
        else:
            checked = as_finite_float32(array, self.name)
        flat = checked.reshape(rows, *shape[-1:] or (1,))
        data = self.encode(flat)
        self._check_scales(data, flat)
        return BlockArray(self, shape, data.reshape(*shape[:-1], row_bytes))

    def _check_scales(self, data: np.ndarray, source: np.ndarray) -> None:
        """NumericsError where a float16 in a block came out infinite."""
        for at in self.halves:
            upper = data.reshape(-1)[at + 1 :: self.block_bytes] & 0x7C
            if upper.size and upper.max() == 0x7C:
                as_finite_float32(source, self.name)
                block = int(upper.argmax())
                peak = float(np.abs(source.reshape(-1, self.block)[block]).max())
                raise NumericsError(
                    f"block {block} has numbers up to {peak:g}, for which {self.name} would need a "
                    "float16 beyond the largest",
                    hint="weights that large are rarely meant; f32 and bf16 can store them",
                )

    def wrap(self, data: np.ndarray, shape: tuple[int, ...]) -> "BlockArray":
        """Bytes that are in this format already (uint8, in C order) as an array of `shape`."""
        row_bytes = self.row_bytes(shape[-1] if shape else 1)
        return BlockArray(self, shape, data.reshape(*shape[:-1], row_bytes))


@dataclass(frozen=True, eq=False)
class BlockArray(Stored):
    """An array in a block format: `data` is uint8, (*shape[:-1], bytes of a row)."""

    form: BlockFormat  # pyright: ignore[reportIncompatibleVariableOverride]
    shape: tuple[int, ...]
    data: np.ndarray

    @property
    def nbytes(self) -> int:
        return self.data.nbytes

    def dequantize(self) -> np.ndarray:
        rows = self.data.reshape(prod(self.shape[:-1]), self.data.shape[-1])
        return self._decode(rows).reshape(self.shape)

    def rows(self, low: int, high: int, out: np.ndarray) -> np.ndarray:
        return self._decode(self.data[low:high], out=out)

    @property
    def _decode(self) -> Callable[..., np.ndarray]:
        if self.form.decode is None:
            raise UnsupportedError(
                f"nothing here reads {self.form.name}",
                hint="convert the file with llama.cpp's llama-quantize --allow-requantize, or "
                "fetch it in another type",
            )
        return self.form.decode


def _plain(dtype: type) -> dict[str, Any]:
    """Encoder and decoder of floats that are stored as they are."""

    def encode(x: np.ndarray) -> np.ndarray:
        with np.errstate(over="ignore"):
            return np.ascontiguousarray(x.astype(dtype)).view(np.uint8)

    def decode(blocks: np.ndarray, *, out: np.ndarray | None = None) -> np.ndarray:
        floats = np.ascontiguousarray(blocks).view(dtype)
        if out is None:
            return floats.astype(np.float32)
        np.copyto(out, floats, casting="same_kind")
        return out

    return {"encode": encode, "decode": decode}


_TYPES = (
    BlockFormat("f32", 0, 1, 4, **_plain(np.float32)),
    BlockFormat("f16", 1, 1, 2, **_plain(np.float16), halves=(0,), peaks=True),
    BlockFormat("q4_0", 2, 32, 18, kernels.quantize_q4_0, kernels.dequantize_q4_0, (0,), True),
    BlockFormat("q4_1", 3, 32, 20, kernels.quantize_q4_1, kernels.dequantize_q4_1, (0, 2)),
    BlockFormat("q5_0", 6, 32, 22, kernels.quantize_q5_0, kernels.dequantize_q5_0, (0,), True),
    BlockFormat("q5_1", 7, 32, 24, kernels.quantize_q5_1, kernels.dequantize_q5_1, (0, 2)),
    BlockFormat("q8_0", 8, 32, 34, kernels.quantize_q8_0, kernels.dequantize_q8_0, (0,), True),
    BlockFormat("q8_1", 9, 32, 36),
    BlockFormat("q2_k", 10, 256, 84, None, kernels.dequantize_q2_k, (80, 82)),
    BlockFormat("q3_k", 11, 256, 110, None, kernels.dequantize_q3_k, (108,)),
    BlockFormat("q4_k", 12, 256, 144, kernels.quantize_q4_k, kernels.dequantize_q4_k, (0, 2)),
    BlockFormat("q5_k", 13, 256, 176, kernels.quantize_q5_k, kernels.dequantize_q5_k, (0, 2)),
    BlockFormat("q6_k", 14, 256, 210, kernels.quantize_q6_k, kernels.dequantize_q6_k, (208,)),
    BlockFormat("q8_k", 15, 256, 292),
    BlockFormat("iq2_xxs", 16, 256, 66),
    BlockFormat("iq2_xs", 17, 256, 74),
    BlockFormat("iq3_xxs", 18, 256, 98),
    BlockFormat("iq1_s", 19, 256, 50),
    BlockFormat("iq4_nl", 20, 32, 18),
    BlockFormat("iq3_s", 21, 256, 110),
    BlockFormat("iq2_s", 22, 256, 82),
    BlockFormat("iq4_xs", 23, 256, 136),
    BlockFormat("i8", 24, 1, 1),
    BlockFormat("i16", 25, 1, 2),
    BlockFormat("i32", 26, 1, 4),
    BlockFormat("i64", 27, 1, 8),
    BlockFormat("f64", 28, 1, 8, **_plain(np.float64)),
    BlockFormat("iq1_m", 29, 256, 56),
    BlockFormat("bf16", 30, 1, 2, **_plain(ml_dtypes.bfloat16)),
    BlockFormat("tq1_0", 34, 256, 54),
    BlockFormat("tq2_0", 35, 256, 66),
    BlockFormat("mxfp4", 39, 32, 17),
)

BY_NUMBER: dict[int, BlockFormat] = {form.number: form for form in _TYPES}
"""ggml's types by their number in GGUF files."""

ENCODED: dict[str, BlockFormat] = {form.name: form for form in _TYPES if form.encode}
"""Those that can be written, by name."""

for _form in ENCODED.values():
    register(_form)
