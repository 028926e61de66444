"""What the weights of a model take in this library's memory."""

from collections.abc import Mapping
from math import prod

from entrenar_core.estimate.setup import in_few_bits
from entrenar_core.estimate.shape import ModelShape
from entrenar_core.estimate.terms import ALWAYS, LOADING, Term
from entrenar_core.kernels.blockwise import BLOCK
from entrenar_core.kernels.panels import PANEL
from entrenar_core.quant import FORMATS, BlockFormat

FLOAT = 4
BASES: Mapping[str, float] = {"float32": 4, "bfloat16": 2, "int8": 1, "nf4": 0.5}
"""Bytes of a matrix's element by the precision of the base, without scales."""
BLOCKS: Mapping[str, BlockFormat] = {
    name: form
    for name, form in FORMATS.items()
    if isinstance(form, BlockFormat) and form.block > 1 and form.encode and form.decode
}
"""ggml's types that a base may be in besides: their blocks have the scales in them."""


def weights(shape: ModelShape, base: str) -> list[Term]:
    """P numbers in the base's precision: all matrices in 16 bits, those of projections without the
    head in few bits, the others and all vectors in float32 (`models.load`).

    Raises ShapeError where rows of a matrix are no whole number of blocks.
    """
    if not in_few_bits(base):
        narrow = shape.parameters if base == "float32" else _in_matrices(shape)
        terms = [_in_base(narrow, round(BASES[base] * narrow), base)]
        return terms + _wide(shape.parameters - narrow, "vectors")
    rest = _wide(shape.parameters - shape.in_linears, "table, head and vectors")
    if base in BLOCKS:
        return [_in_base(shape.in_linears, _in_blocks(shape, BLOCKS[base]), base), *rest]
    few = _in_base(shape.in_linears, round(BASES[base] * shape.in_linears), base)
    return [few, *rest, _constants(shape, base)]


def _in_base(count: int, size: int, base: str) -> Term:
    return Term("weights", size, f"{count:,} × {size / max(count, 1):.3g} B in {base}")


def _wide(count: int, which: str) -> list[Term]:
    if not count:
        return []
    return [Term("weights in float32", FLOAT * count, f"{count:,} × 4 B: {which}")]


def _in_blocks(shape: ModelShape, form: BlockFormat) -> int:
    """The bytes of all projections, whose blocks run along the inputs."""
    return sum(rows * form.row_bytes(columns) for rows, columns in shape.linears.values())


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
    quantized = set(map(prod, shape.linears.values())) if in_few_bits(base) else set()
    kept = sum(term.bytes for term in weights(shape, base)) / shape.parameters
    left, most = shape.parameters, 0
    for size in shape.sizes:
        left -= size
        copies = 2 if size in quantized else 1
        most = max(most, FLOAT * copies * size - round(kept * left))
    why = "the pages of the file that a tensor is read from, less what is not read yet"
    return Term("file being read", most, why, LOADING)
