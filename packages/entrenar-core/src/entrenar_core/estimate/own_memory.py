"""The main memory that this library takes to train, term by term: what its code allocates.

Sizes are bytes; arithmetic is in float32. The constants that do not follow from shapes are in
`own_constants`.
"""

from collections.abc import Callable, Mapping, Sequence

from entrenar_common.units import format_binary
from entrenar_core.autograd.ops.linear_loss import CHUNK
from entrenar_core.estimate import own_constants
from entrenar_core.estimate.own_activations import (
    gradients_in_block,
    kept_by_block,
    kept_outside,
    missing_from_first,
)
from entrenar_core.estimate.own_weights import FLOAT, dequantized, weights
from entrenar_core.estimate.setup import Setup
from entrenar_core.estimate.shape import ModelShape
from entrenar_core.estimate.terms import BACKWARD, LOSS, Memory, Term
from entrenar_core.estimate.trained import trained_sizes
from entrenar_core.kernels.blockwise import BLOCK
from entrenar_core.optim.adam import MIN_8BIT_SIZE

COMPUTED = (
    "computed from what this library allocates, with constants measured on real runs: "
    f"{own_constants.FITTED}"
)


def own_memory(shape: ModelShape, setup: Setup) -> Memory:
    """The terms of `setup`: a base of `own_weights.BASES`, an optimizer of `OPTIMIZERS`."""
    moving = [*activations(shape, setup), *loss_of_predictions(shape, setup)]
    overhead = own_constants.BASE + round(own_constants.FRAGMENTS * smaller_phase(moving))
    terms = [
        *weights(shape, setup.base),
        *trained(shape, setup),
        *moving,
        dequantized(setup.base),
        Term(
            "fixed overhead", overhead, "the process without a model; what the allocator cannot use"
        ),
    ]
    return Memory(tuple(terms), COMPUTED)


def smaller_phase(terms: Sequence[Term]) -> int:
    """The bytes that only the loss or only the backward pass needs, whichever are fewer."""
    memory = Memory(tuple(terms), "")
    return min(memory.of(LOSS), memory.of(BACKWARD))


def trained(shape: ModelShape, setup: Setup) -> list[Term]:
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


def activations(shape: ModelShape, setup: Setup) -> list[Term]:
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


def loss_of_predictions(shape: ModelShape, setup: Setup) -> list[Term]:
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
