"""Cases of the encoders and decoders of formats for few bits."""

import numpy as np

from entrenar_core.kernels.registry import Kernel
from entrenar_core.quant.blocks import BY_NUMBER
from entrenar_core.testing_cases.case import BEYOND_CACHES, Arguments, Case, Draw


def _normal(rows: int, columns: int, spread: float) -> Case:
    """Numbers over many decades, each block in its own, with a block of zeros."""

    def make(d: Draw) -> Arguments:
        x = d.normal(rows, columns)
        scale = np.exp(d.dtype.type(spread) * d.normal(rows, columns // 32))
        scale[0, 0] = 0
        return {"x": x * np.repeat(scale, 32, axis=1)}

    return Case(f"({rows}, {columns}) spread {spread}", make)


def _grid(rows: int, columns: int, step: float) -> Case:
    """Multiples of a step, where ties are, and peaks of both signs."""

    def make(d: Draw) -> Arguments:
        return {"x": (d.ids(33, rows, columns) - 16).astype(d.dtype) * d.dtype.type(step)}

    return Case(f"({rows}, {columns}) in steps of {step}", make)


def _any_bits(rows: int, columns: int) -> Case:
    """Every finite number is as likely: most are too large or too small for a float16."""

    def make(d: Draw) -> Arguments:
        x = d.ids(2**32, rows, columns).astype(np.uint32).view(np.float32)
        return {"x": np.where(np.isfinite(x), x, np.float32(0)).astype(d.dtype)}

    return Case(f"({rows}, {columns}) any bits", make)


def _zeros(rows: int, columns: int) -> Case:
    """Zeros of both signs, and a few ones."""

    def make(d: Draw) -> Arguments:
        x = np.where(d.ids(2, rows, columns), d.dtype.type(0), d.dtype.type(-0.0))
        return {"x": np.where(d.ids(100, rows, columns), x, d.dtype.type(1))}

    return Case(f"({rows}, {columns}) zeros", make)


def _stored(rows: int, blocks: int, size: int, halves: tuple[int, ...]) -> Case:
    """Any codes, with scales that are finite: a product with infinity may be NaN."""

    def make(d: Draw) -> Arguments:
        stored = d.ids(256, rows, blocks, size).astype(np.uint8)
        for at in halves:
            stored[..., at + 1] &= 0xBF
        return {"blocks": stored.reshape(rows, blocks * size)}

    return Case(f"({rows}, {blocks} blocks of {size})", make)


def _encoded(block: int) -> list[Case]:
    return [
        _normal(1, block, 0.0),
        _normal(3, 3 * block, 3.0),
        _normal(129, block, 12.0),
        _grid(5, 2 * block, 1.0),
        _grid(3, 8 * block, 2.0**-20),
        _any_bits(7, 5 * block),
        _zeros(40, block),
        _normal(2, block, 30.0),
    ]


def _decoded(block: int, size: int, halves: tuple[int, ...]) -> list[Case]:
    large, columns = BEYOND_CACHES
    return [
        _stored(1, 1, size, halves),
        _stored(3, 5, size, halves),
        _stored(129, 2, size, halves),
        _stored(large, columns // block, size, halves),
    ]


CASES: dict[str, list[Case]] = {}
for _form in BY_NUMBER.values():
    if isinstance(_form.encode, Kernel):
        CASES[_form.encode.name] = _encoded(_form.block)
    if isinstance(_form.decode, Kernel):
        CASES[_form.decode.name] = _decoded(_form.block, _form.block_bytes, _form.halves)
