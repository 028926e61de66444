"""What this library's tape keeps of a forward pass, in float32 numbers for each token.

Read off the operations of the blocks: what the pullbacks of each one hold. A test compares every
architecture with `autograd.memory_report`, to the byte.
"""

from collections.abc import Callable, Mapping

from entrenar_core.estimate.setup import Setup
from entrenar_core.estimate.shape import Blocks, ModelShape


def kept_by_block(shape: ModelShape, setup: Setup) -> int:
    """The numbers that one block keeps of a token."""
    return _FAMILIES[_family(shape)](shape.blocks) + _of_adapters(shape, setup)


def kept_outside(shape: ModelShape, setup: Setup) -> int:
    """What the last norm keeps, what follows it, and the gradient of the hidden states that the
    loss has computed."""
    hidden = shape.blocks.hidden
    if shape.blocks.norms == "rms":
        return hidden + 1 + hidden
    if shape.model_type == "gpt2":
        return hidden + 2 + hidden
    embedding_norm = hidden + 2 if setup.is_full else 0
    head = 3 * hidden + 2 if shape.predicts_tokens else 0
    return embedding_norm + head + hidden


def missing_from_first(shape: ModelShape, setup: Setup) -> int:
    """What the first block does not keep when the table below it is frozen: its first norm needs
    no gradient, and so nothing is recorded of it, nor of the norms of heads whose projection is
    not adapted."""
    if setup.is_full or setup.checkpointing:
        return 0
    blocks, found = shape.blocks, {"llama": 1, "gpt2": 2}.get(_family(shape), 0)
    found += blocks.hidden if found else 0
    if blocks.head_norms:  # of queries or keys that are not adapted
        adapted = {name.rpartition(".")[2] for name in setup.targets}
        groups = blocks.heads * blocks.keys // blocks.queries
        found += 0 if "q_proj" in adapted else blocks.queries + blocks.heads
        found += 0 if "k_proj" in adapted else blocks.keys + groups
    return found


def gradients_in_block(shape: ModelShape, setup: Setup) -> int:
    """The numbers for each token while the gradients of a block's inner layer are computed, which
    is when most of them are there: that of the output, those of what goes into the activation, and
    the activation's result, which is computed again for the gradient of its weight."""
    blocks = shape.blocks
    wide = 3 if blocks.gated else 2
    if _frozen_unadapted_output(shape, setup):
        wide -= 1
    return blocks.hidden * (1 if blocks.norms == "rms" else 2) + wide * blocks.inner


def _frozen_unadapted_output(shape: ModelShape, setup: Setup) -> bool:
    """Whether the weight behind the activation needs no gradient, so that nothing is repeated."""
    if setup.is_full:
        return False
    return not _adapts_inner(shape, setup)


def _adapts_inner(shape: ModelShape, setup: Setup) -> bool:
    """Whether the projection behind the activation has an adapter: then the two are not fused."""
    inside = shape.first_block
    return any(inside[n][1] == shape.blocks.inner for n in setup.targets if n in inside)


def _of_adapters(shape: ModelShape, setup: Setup) -> int:
    """x Aᵀ of every adapted projection; the activation's result where it is adapted, since it is
    kept then and not computed again."""
    if setup.is_full:
        return 0
    inside = shape.first_block
    found = setup.rank * sum(name in inside for name in setup.targets)
    return found + (shape.blocks.inner if _adapts_inner(shape, setup) else 0)


def _llama(blocks: Blocks) -> int:
    """Two norms: input, root and result of each. Queries and keys as they were turned, values, the
    result of attention and its logarithms. Gate and the other half. Norms of heads keep what they
    are given."""
    norms = 2 * (2 * blocks.hidden + 1)
    attention = 2 * blocks.queries + 2 * blocks.keys + blocks.heads
    kept = norms + attention + 2 * blocks.inner
    if blocks.head_norms:
        groups = blocks.heads * blocks.keys // blocks.queries
        kept += blocks.queries + blocks.keys + blocks.heads + groups
    return kept


def _gpt2(blocks: Blocks) -> int:
    """Two norms: input, mean, root and result of each. The packed queries, keys and values, and the
    three apart; the result of attention and its logarithms. What goes into the activation."""
    norms = 2 * (2 * blocks.hidden + 2)
    return norms + 7 * blocks.hidden + blocks.heads + blocks.inner


def _encoder(blocks: Blocks) -> int:
    """Queries, keys, values, the result of attention and its logarithms. Two norms behind sums:
    input, mean, root and result of each. What goes into the activation."""
    norms = 2 * (2 * blocks.hidden + 2)
    return norms + 4 * blocks.hidden + blocks.heads + blocks.inner


def _family(shape: ModelShape) -> str:
    """Which of the blocks below a model is made of."""
    if shape.blocks.norms == "rms":
        return "llama"
    return shape.model_type if shape.model_type in _FAMILIES else "encoder"


_FAMILIES: Mapping[str, Callable[[Blocks], int]] = {
    "llama": _llama,
    "gpt2": _gpt2,
    "encoder": _encoder,
}
