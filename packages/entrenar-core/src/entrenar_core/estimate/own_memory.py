"""The main memory that this library takes to train, term by term: what its code allocates.

Sizes are bytes; arithmetic is in float32. The constants that do not follow from shapes are in
`own_constants`.
"""

from collections.abc import Callable, Mapping, Sequence

from entrenar_common.units import format_binary
from entrenar_core.autograd.ops.linear_loss import CHUNK
from entrenar_core.estimate import own_constants
from entrenar_core.estimate.own_activations import (
    FLOAT,
    gradients_in_block,
    kept_by_block,
    kept_outside,
    missing_from_first,
)
from entrenar_core.estimate.setup import Setup
from entrenar_core.estimate.shape import ModelShape
from entrenar_core.estimate.terms import BACKWARD, LOSS, Memory, Term
from entrenar_core.estimate.trained import trained_sizes
from entrenar_core.kernels.blockwise import BLOCK
from entrenar_core.kernels.panels import PANEL
from entrenar_core.optim.adam import MIN_8BIT_SIZE

COMPUTED = (
    "computed from what this library allocates, with constants measured on real runs: "
    f"{own_constants.FITTED}"
)
BASES: Mapping[str, float] = {"float32": 4, "bfloat16": 2, "int8": 1, "nf4": 0.5}
"""Bytes of a matrix's element by the precision of the base, without scales."""


def own_memory(shape: ModelShape, setup: Setup) -> Memory:
    """The terms of `setup`, which has a base of `BASES` and an optimizer of `OPTIMIZERS`."""
    moving = [*_activations(shape, setup), *_loss(shape, setup)]
    overhead = own_constants.BASE + round(own_constants.FRAGMENTS * smaller_phase(moving))
    terms = [
        *_weights(shape, setup),
        *_trained(shape, setup),
        *moving,
        _dequantized(setup),
        Term(
            "fixed overhead", overhead, "the process without a model; what the allocator cannot use"
        ),
    ]
    return Memory(tuple(terms), COMPUTED)


def smaller_phase(terms: Sequence[Term]) -> int:
    """The bytes that only the loss or only the backward pass needs, whichever are fewer."""
    memory = Memory(tuple(terms), "")
    return min(memory.of(LOSS), memory.of(BACKWARD))


def _weights(shape: ModelShape, setup: Setup) -> list[Term]:
    """P numbers in the base's precision: all matrices in 16 bits, those of projections without the
    head in few bits, the others and all vectors in float32 (`models.load`)."""
    size, narrow = BASES[setup.base], shape.parameters
    if setup.base != "float32":
        narrow = shape.in_linears if setup.is_quantized else _in_matrices(shape)
    wide = shape.parameters - narrow
    terms = [Term("weights", round(size * narrow), f"{narrow:,} × {size:g} B in {setup.base}")]
    if wide:
        which = "table, head and vectors" if setup.is_quantized else "vectors"
        terms.append(Term("weights in float32", FLOAT * wide, f"{wide:,} × 4 B: {which}"))
    if setup.is_quantized:
        terms.append(_constants(shape, setup))
    return terms


def _constants(shape: ModelShape, setup: Setup) -> Term:
    """`quant.NF4`: a code for the scale of each 64 weights, a float32 for each 256 of those, and a
    mean. `quant.Integer`: a float32 for each row."""
    if setup.base == "int8":
        rows = sum(rows for rows, _ in shape.linears.values())
        return Term("quantization constants", FLOAT * rows, f"{rows:,} rows × 4 B")
    sizes = [rows * columns for rows, columns in shape.linears.values()]
    scales = [-(-size // 64) for size in sizes]
    groups = sum(-(-count // BLOCK) + 1 for count in scales)
    why = "1 B for 64 weights, and 4 B for 256 of those"
    return Term("quantization constants", sum(scales) + FLOAT * groups, why)


def _dequantized(setup: Setup) -> Term:
    """Matrices that are not float32 are widened a panel at a time (`kernels.panels`)."""
    if setup.base == "float32":
        return Term("dequantization buffer", 0, "none: the base is float32")
    return Term("dequantization buffer", FLOAT * PANEL, f"{PANEL:,} numbers at a time × 4 B")


def _in_matrices(shape: ModelShape) -> int:
    tables = sum(rows * width for rows, width in shape.tables.values())
    head = 0 if shape.head is None or shape.head_is_tied else shape.head[1][0] * shape.head[1][1]
    return shape.in_linears + tables + head


def _trained(shape: ModelShape, setup: Setup) -> list[Term]:
    """What is trained lies in one flat float32 array, its gradients in a second one, and what the
    optimizer remembers in further ones (`optim.groups.FlatGroup`)."""
    sizes = trained_sizes(shape, setup)
    count, state = sum(sizes), OPTIMIZERS[setup.optimizer]
    adapters = 0 if setup.is_full else FLOAT * count
    none = "none: all weights are trained"
    return [
        Term("adapters", adapters, none if setup.is_full else f"{count:,} × 4 B"),
        Term("gradients", FLOAT * count, f"{count:,} × 4 B"),
        Term("optimizer state", round(sum(map(state, sizes))), f"of {setup.optimizer}"),
    ]


def _eight_bit(n: int) -> float:
    """`optim.Adam(state_bits=8)`: two bytes and two scales for each block; small ones in full."""
    blocks = -(-n // BLOCK)
    return 2 * BLOCK * blocks + 2 * FLOAT * blocks if n >= MIN_8BIT_SIZE else 2 * FLOAT * n


OPTIMIZERS: Mapping[str, Callable[[int], float]] = {
    "adamw": lambda n: 2 * FLOAT * n,
    "adamw-8bit": _eight_bit,
    "lion": lambda n: FLOAT * n,
    "sgd": lambda _: 0,
    "sgd-momentum": lambda n: FLOAT * n,
}


def _activations(shape: ModelShape, setup: Setup) -> list[Term]:
    """What the tape keeps; with checkpointing the input of each block, and one block while it is
    computed again. Then the gradients inside a block."""
    tokens, blocks = FLOAT * setup.tokens, shape.blocks
    one, outside = kept_by_block(shape, setup), kept_outside(shape, setup)
    inner = gradients_in_block(shape, setup)
    gradients = Term(
        "gradients in one block", tokens * inner, f"{FLOAT * inner:,} B a token", BACKWARD
    )
    per_token = f"{FLOAT * one:,} B a token and block"
    whole = tokens * (one * blocks.count - missing_from_first(shape, setup) + outside)
    inputs = tokens * (blocks.hidden * blocks.count + outside)
    if not setup.checkpointing:
        why = f"{per_token}; with checkpointing {format_binary(inputs + tokens * one)}"
        return [Term("activations", whole, why), gradients]
    return [
        Term(
            "activations kept",
            inputs,
            f"the input of each block; without checkpointing {format_binary(whole)}",
        ),
        Term("activations of one block", tokens * one, f"computed again: {per_token}", BACKWARD),
        gradients,
    ]


def _loss(shape: ModelShape, setup: Setup) -> list[Term]:
    """Logits of 1,024 tokens at a time, the gradient of the hidden states, and that of the output
    weight where it is trained (`ops.linear_cross_entropy`)."""
    if not shape.predicts_tokens or shape.head is None:
        return [Term("logits", 0, "of a few labels: next to nothing", LOSS)]
    rows, width = shape.head[1]
    chunk = min(CHUNK, setup.tokens)
    head = FLOAT * rows * width if setup.is_full else 0
    return [
        Term("logits", FLOAT * chunk * rows, f"{chunk:,} tokens at a time × {rows:,} × 4 B", LOSS),
        Term("hidden states", FLOAT * setup.tokens * width, "those that the loss is given", LOSS),
        Term(
            "gradient of the head",
            head,
            f"{rows * width:,} × 4 B, before it is added to that of the table"
            if head
            else "none: the head is frozen",
            LOSS,
        ),
    ]
