"""Cases of formats of few bits."""

import numpy as np

from entrenar_core.kernels import quantize_nf4
from entrenar_core.testing_cases.case import WIDE, Arguments, Case, Draw

SIZES = ((1, 64), (63, 64), (64, 64), (257, 64), (1000, 32), (WIDE, 64), (WIDE, 4096))


def _wide(draw: Draw, size: int) -> np.ndarray:
    """Numbers over some decades, with a block of zeros where there are several blocks."""
    x = draw.normal(size) * np.exp(draw.dtype.type(2) * draw.normal(size))
    x[64:128] = 0
    return x


def _quantize_nf4(size: int, block: int) -> Case:
    return Case(f"{size} by {block}", lambda d: {"x": _wide(d, size), "block": block})


def _dequantize_nf4(size: int, block: int) -> Case:
    def make(_d: Draw) -> Arguments:
        x = _wide(Draw(f"nf4 {size}", "float32"), size)
        codes, scales = quantize_nf4.reference(x, block=block)
        return {"codes": codes, "scales": scales, "block": block, "size": size}

    return Case(f"{size} by {block}", make)


CASES: dict[str, list[Case]] = {
    "nf4.quantize_nf4": [_quantize_nf4(*sizes) for sizes in SIZES],
    "nf4.dequantize_nf4": [_dequantize_nf4(*sizes) for sizes in SIZES],
}
