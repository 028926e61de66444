"""Cases of formats of few bits."""

import numpy as np

from entrenar_core.kernels import affine_codes, quantize_nf4
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


def _affine(rows: int, columns: int, *, bits: int = 4, symmetric: bool = True) -> Case:
    """About a tenth of the numbers are out of range."""
    high = 2 ** (bits - 1) - 1 if symmetric else 2**bits - 1

    def make(d: Draw) -> Arguments:
        scale = np.exp(d.normal(rows)) * d.dtype.type(3.3 / 2**bits)
        zero = np.zeros_like(scale) if symmetric else d.ids(high, rows).astype(d.dtype)
        x = d.normal(rows, columns) * scale[:, None] * d.dtype.type(2 ** (bits - 1) / 1.6)
        return {
            "x": x, "scale": scale, "zero": zero, "low": -high if symmetric else 0, "high": high
        }  # fmt: skip

    return Case(f"({rows}, {columns}) in {bits} bits{'' if symmetric else ' with a zero'}", make)


def _affine_values(case: Case) -> Case:
    def make(_d: Draw) -> Arguments:
        given = case.arguments()
        low, high = given["low"], given["high"]
        x, scale, zero = given["x"], given["scale"], given["zero"]
        codes = affine_codes.reference(x, scale, zero, low=low, high=high)
        return {"codes": codes, "scale": scale, "zero": zero, "low": low}

    return Case(case.name, make)


def _with_gradient(case: Case, **options: float) -> Case:
    def make(d: Draw) -> Arguments:
        given = case.make(d)
        return {"g": d.normal(*given["x"].shape), **given, **options}

    return Case(f"{case.name} {options}", make)


_AFFINE = [
    _affine(1, 1),
    _affine(7, 129),
    _affine(33, 32, bits=8),
    _affine(5, 17, bits=2),
    _affine(7, 129, symmetric=False),
    _affine(1, WIDE, bits=3, symmetric=False),
    _affine(WIDE, 1, bits=8),
]


CASES: dict[str, list[Case]] = {
    "affine.fake_affine": _AFFINE,
    "affine.affine_codes": _AFFINE,
    "affine.affine_values": [_affine_values(case) for case in _AFFINE],
    "affine.fake_affine_grad": [_with_gradient(case) for case in _AFFINE],
    "affine.soft_affine_grad": [_with_gradient(case, alpha=0.2) for case in _AFFINE],
    "nf4.quantize_nf4": [_quantize_nf4(*sizes) for sizes in SIZES],
    "nf4.dequantize_nf4": [_dequantize_nf4(*sizes) for sizes in SIZES],
}
