"""Cases of formats of few bits."""

import numpy as np

from entrenar_core.kernels import affine_codes, quantize_blockwise, quantize_nf4
from entrenar_core.kernels.blockwise import BLOCK, dynamic_map
from entrenar_core.testing_cases.case import WIDE, Arguments, Case, Draw

SIZES = ((1, 64), (63, 64), (64, 64), (257, 64), (1000, 32), (WIDE, 64), (WIDE, 4096))


def _wide(draw: Draw, size: int) -> np.ndarray:
    """Numbers over some decades, with a block of zeros where there are several blocks."""
    x = draw.normal(size) * np.exp(draw.dtype.type(2) * draw.normal(size))
    x[64:128] = 0
    return x


def _quantize_nf4(size: int, block: int) -> Case:
    return Case(f"{size} by {block}", lambda d: {"x": _wide(d, size), "block": block})


PARTS = (
    (1, 64, 0, 1), (63, 64, 5, 58), (128, 64, 64, 64), (257, 64, 1, 256), (1000, 32, 97, 801),
    (WIDE, 64, 12_345, 40_000), (WIDE, 4096, 4095, 4098),
)  # fmt: skip
"""Elements of an array, its blocks, and where a part of how many begins."""


def _nf4_part(size: int, block: int, start: int, count: int, dtype: str = "float32") -> Case:
    def make(_d: Draw) -> Arguments:
        x = _wide(Draw(f"nf4 {size}", "float32"), size)
        codes, scales = quantize_nf4.reference(x, block=block)
        return {
            "codes": codes, "scales": scales, "block": block, "dtype": dtype, "start": start,
            "out": np.zeros(count, np.float32),  # memory as it is found may hold NaNs that signal
        }  # fmt: skip

    return Case(f"{count} from {start} of {size} by {block} in {dtype}", make)


def _nested_nf4_part(case: Case) -> Case:
    def make(_d: Draw) -> Arguments:
        given = case.arguments()
        codes, scales = given.pop("codes"), given.pop("scales")
        offset = float(scales.mean())
        small, absmax = quantize_blockwise.reference(scales - np.float32(offset), signed=True)
        return {
            "codes": codes, "scales": small, "absmax": absmax, "entries": dynamic_map(True),
            "nested": BLOCK, "offset": offset, **given,
        }  # fmt: skip

    return Case(case.name, make)


_NF4_PARTS = [
    *(_nf4_part(*part) for part in PARTS),
    _nf4_part(1000, 32, 97, 801, "float16"),
    _nf4_part(1000, 64, 0, 1000, "bfloat16"),
]


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


def _affine_part(bits: int, rows: int, length: int, start: int, count: int) -> Case:
    def make(_d: Draw) -> Arguments:
        d = Draw(f"affine {bits} {rows} {length}", "float32")
        stored = d.ids(256, -(-rows * length // 8) * bits).astype(np.uint8)
        scale, zero = np.exp(d.normal(rows)), d.ids(9, rows).astype(np.uint8)
        return {
            "data": stored, "scale": scale, "zero": zero,
            "bits": bits, "low": -3, "length": length, "start": start,
            "out": np.zeros(count, np.float32),  # memory as it is found may hold NaNs that signal
        }  # fmt: skip

    return Case(f"{count} from {start} of ({rows}, {length}) in {bits} bits", make)


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
    "parts.affine_part": [
        _affine_part(8, 1, 1, 0, 1),
        _affine_part(8, 7, 129, 130, 500),
        _affine_part(8, 3, WIDE, 1000, 2 * WIDE),
        *(_affine_part(bits, 33, 43, 41, 1001) for bits in range(2, 8)),
    ],
    "parts.nested_nf4_part": [_nested_nf4_part(case) for case in _NF4_PARTS],
    "parts.nf4_part": _NF4_PARTS,
}
