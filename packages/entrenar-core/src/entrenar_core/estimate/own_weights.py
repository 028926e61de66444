"""What the weights of a model take in this library's memory."""

from collections.abc import Mapping
from math import prod

from entrenar_core.estimate.setup import QUANTIZED
from entrenar_core.estimate.shape import ModelShape
from entrenar_core.estimate.terms import ALWAYS, LOADING, Term
from entrenar_core.kernels.blockwise import BLOCK
from entrenar_core.kernels.panels import PANEL

FLOAT = 4
BASES: Mapping[str, float] = {"float32": 4, "bfloat16": 2, "int8": 1, "nf4": 0.5}
"""Bytes of a matrix's element by the precision of the base, without scales."""


def weights(shape: ModelShape, base: str) -> list[Term]:
    """P numbers in the base's precision: all matrices in 16 bits, those of projections without the
    head in few bits, the others and all vectors in float32 (`models.load`)."""
    size, narrow = BASES[base], shape.parameters
    if base != "float32":
        narrow = shape.in_linears if base in QUANTIZED else _in_matrices(shape)
    wide = shape.parameters - narrow
    terms = [Term("weights", round(size * narrow), f"{narrow:,} × {size:g} B in {base}")]
    if wide:
        which = "table, head and vectors" if base in QUANTIZED else "vectors"
        terms.append(Term("weights in float32", FLOAT * wide, f"{wide:,} × 4 B: {which}"))
    if base in QUANTIZED:
        terms.append(_constants(shape, base))
    return terms


def _constants(shape: ModelShape, base: str) -> Term:
    """`quant.NF4`: a code for the scale of each 64 weights, a float32 for each 256 of those, and a
    mean. `quant.Integer`: a float32 for each row."""
    if base == "int8":
        rows = sum(rows for rows, _ in shape.linears.values())
        return Term("quantization constants", FLOAT * rows, f"{rows:,} rows × 4 B")
    sizes = [rows * columns for rows, columns in shape.linears.values()]
    scales = [-(-size // 64) for size in sizes]
    groups = sum(-(-count // BLOCK) + 1 for count in scales)
    why = "1 B for 64 weights, and 4 B for 256 of those"
    return Term("quantization constants", sum(scales) + FLOAT * groups, why)


def dequantized(base: str, when: str = ALWAYS) -> Term:
    """Matrices that are not float32 are widened a panel at a time (`kernels.panels`)."""
    if base == "float32":
        return Term("dequantization buffer", 0, "none: the base is float32", when)
    return Term("dequantization buffer", FLOAT * PANEL, f"{PANEL:,} numbers at a time × 4 B", when)


def _in_matrices(shape: ModelShape) -> int:
    tables = sum(rows * width for rows, width in shape.tables.values())
    head = 0 if shape.head is None or shape.head_is_tied else shape.head[1][0] * shape.head[1][1]
    return shape.in_linears + tables + head


def loading(shape: ModelShape, base: str) -> Term:
    """What is there besides the weights while they are read (`models.load`): the pages of the file
    that the tensor is in, which are let go after it, and a float32 copy where it is quantized."""
    quantized = set(map(prod, shape.linears.values())) if base in QUANTIZED else set()
    left, most = shape.parameters, 0
    for size in shape.sizes:
        left -= size
        copies = 2 if size in quantized else 1
        most = max(most, FLOAT * copies * size - round(BASES[base] * left))
    why = "the pages of the file that a tensor is read from, less what is not read yet"
    return Term("file being read", most, why, LOADING)
