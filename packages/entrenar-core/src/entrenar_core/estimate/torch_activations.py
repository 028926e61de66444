"""What PyTorch's autograd keeps of a forward pass through transformers' blocks, per token.

Counted from the operations of transformers' modules in bfloat16, with scaled_dot_product_attention:
every input that a backward formula reads is kept once, in the type that it has. For a GPT block
this is Korthikanti et al. 2022, arXiv:2205.05198, §4.1, without the terms in the square of the
length, which that attention does not keep. A test counts what autograd really saves.
"""

from collections.abc import Mapping

from entrenar_core.estimate.setup import Setup
from entrenar_core.estimate.shape import ModelShape

_KEPT_WIDTHS: Mapping[str, int] = {
    "silu": 3,  # of a gated layer: the gate, silu of it, and what it is multiplied with
    "gelu": 1,
    "relu": 1,
    "gelu_new": 4,  # composed of x³, tanh and products, each of which keeps its inputs
    "gelu_pytorch_tanh": 1,
}
"""How many arrays as wide as the inner layer an activation keeps, without its product."""


def block_bytes(shape: ModelShape, setup: Setup) -> int:
    """The bytes that one block keeps of one token."""
    return (
        _norms(shape, setup)
        + _attention(shape)
        + _inputs(shape, setup)
        + 2 * _KEPT_WIDTHS.get(shape.blocks.activation, 2) * shape.blocks.inner
        + shape.blocks.dropouts * shape.blocks.hidden  # masks of booleans
    )


def _norms(shape: ModelShape, setup: Setup) -> int:
    """Two norms of the hidden states, and those of queries and keys where there are any.

    RMSNorm works on a float32 copy, of which it keeps 4 bytes and a root; a weight that is trained
    keeps what it is multiplied with, 2 bytes. LayerNorm keeps its input, mean and root; autocast,
    which adapters are trained in, makes it float32.
    """
    blocks = shape.blocks
    width = 2 * blocks.hidden
    rows = 2
    if blocks.head_norms:
        width += blocks.queries + blocks.keys
        rows += (blocks.queries + blocks.keys) * blocks.heads // blocks.queries
    if blocks.norms == "rms":
        return width * (6 if setup.is_full else 4) + 4 * rows
    return width * 2 + 4 * rows if setup.is_full else width * 4 + 8 * rows


def _attention(shape: ModelShape) -> int:
    """Queries, keys, values and the result in 2 bytes, and a float32 logarithm for each head."""
    blocks = shape.blocks
    return 2 * (2 * blocks.queries + 2 * blocks.keys) + 4 * blocks.heads


def _inputs(shape: ModelShape, setup: Setup) -> int:
    """What the gradients of weights are computed from.

    Full training keeps what each part is given (the result of attention is counted there already).
    A frozen matrix keeps nothing; an adapted one its own copy of the input, which PEFT casts to the
    adapter's type and autocast casts back, and what A makes of it.
    """
    blocks = shape.blocks
    if setup.is_full:
        return 2 * (2 * blocks.hidden + blocks.inner)
    here = shape.first_block
    return sum(2 * (here[n][1] + setup.rank) for n in setup.targets if n in here)
