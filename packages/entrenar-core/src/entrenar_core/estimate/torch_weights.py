"""What the weights of a model take in a GPU's memory with PyTorch and bitsandbytes, and what
there is besides any model."""

from collections.abc import Mapping

from entrenar_core.estimate.setup import in_few_bits
from entrenar_core.estimate.shape import ModelShape
from entrenar_core.estimate.terms import Term

CONTEXT = 2**30
"""CUDA's context with the libraries' work spaces: 0.3 to 2 GiB, depending on GPU and version
(https://vram.asmirnov.xyz); taken as 1 GiB."""
FRAGMENTS = 0.05
"""What PyTorch's allocator cannot use of what it holds, as a share of what comes and goes."""
BASES: Mapping[str, float] = {"float32": 4.0, "bfloat16": 2.0, "int8": 1.0, "nf4": 0.5}
"""Bytes of a weight by the precision of the base."""
_NAMES = {"int8": "LLM.int8()", "nf4": "NF4"}


def weights(shape: ModelShape, base: str, *, others: Term) -> list[Term]:
    """P numbers in the base's precision. A quantized base has only the linear layers without the
    head in few bits; what the others take is `others`.

    Sources: Dettmers et al. 2023, arXiv:2305.14314, §3 (NF4, double quantization); Dettmers et al.
    2022, arXiv:2208.07339 (int8 with a scale for each row).
    """
    size = BASES[base]
    if not in_few_bits(base):
        why = f"{shape.parameters:,} × {size:g} B in {base}"
        return [Term("weights", round(size * shape.parameters), why)]
    few = shape.in_linears
    why = f"{few:,} in linear layers × {size:g} B in {_NAMES[base]}"
    return [Term("weights", round(size * few), why), others, _constants(shape, base)]


def in_float32(shape: ModelShape) -> Term:
    """What is not in few bits, as PEFT's prepare_model_for_kbit_training leaves it."""
    rest = shape.parameters - shape.in_linears
    return Term(
        "weights in float32",
        4 * rest,
        f"{rest:,} × 4 B: embeddings, head and norms, cast by prepare_model_for_kbit_training",
    )


def in_bfloat16(shape: ModelShape) -> Term:
    """What is not in few bits, as transformers loads it."""
    rest = shape.parameters - shape.in_linears
    return Term("weights in bfloat16", 2 * rest, f"{rest:,} × 2 B: embeddings, head and norms")


def _constants(shape: ModelShape, base: str) -> Term:
    """NF4: a scale for each 64 weights, in 8 bits, and for each 256 of those a float32 (arXiv:
    2305.14314, §3); int8: a float32 for each row."""
    if base == "int8":
        rows = sum(rows for rows, _ in shape.linears.values())
        return Term("quantization constants", 4 * rows, f"{rows:,} rows × 4 B")
    blocks = sum(-(-rows * columns // 64) for rows, columns in shape.linears.values())
    groups = sum(-(-rows * columns // (64 * 256)) for rows, columns in shape.linears.values())
    return Term(
        "quantization constants",
        blocks + 4 * groups,
        "double quantization: 1 B for 64 weights, and 4 B for 256 of those",
    )


def dequantized(shape: ModelShape, base: str, when: str) -> Term:
    """bitsandbytes multiplies with a bfloat16 copy of one matrix at a time."""
    if not in_few_bits(base):
        return Term("dequantization buffer", 0, "none: nothing is quantized", when)
    largest = shape.largest_linear
    why = f"the largest matrix in bfloat16: {largest:,} × 2 B"
    return Term("dequantization buffer", 2 * largest, why, when)
