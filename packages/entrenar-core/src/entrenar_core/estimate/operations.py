"""Operations of one training step, and from them what a step costs beside full training.

Multiplications and additions of matrix products count one each; norms, activations and the
optimizer are left out. It is an estimate: what a step really takes depends on the machine.
Source of the counts: Kaplan et al. 2020, arXiv:2001.08361, §2.1; Hoffmann et al. 2022,
arXiv:2203.15556, appendix F (attention, recomputation).
"""

from dataclasses import dataclass

from entrenar_core.estimate.setup import FULL, Setup
from entrenar_core.estimate.shape import ModelShape
from entrenar_core.estimate.targets import adapter_size

DEQUANTIZE = 2
"""A weight of few bits is looked up and multiplied by its scale, each time it is used."""


@dataclass(frozen=True)
class Operations:
    """Operations of one pass over a micro-batch; `repeated` is the second forward pass of
    checkpointing."""

    forward: int
    backward: int
    repeated: int
    dequantization: int

    @property
    def total(self) -> int:
        return self.forward + self.backward + self.repeated + self.dequantization


def operations(shape: ModelShape, setup: Setup) -> Operations:
    """The operations of `setup` for its micro-batch.

    A projection of P numbers takes 2P for each token forward, 2P for the gradient of its input, and
    2P for that of its weight, which frozen ones do not need. Attention takes 4·T²·width forward,
    half of that where it is causal, and twice as much backward.
    """
    tokens, blocks = setup.tokens, shape.blocks
    inner = 2 * tokens * shape.in_linears
    head = 2 * tokens * shape.head[1][0] * shape.head[1][1] if shape.head else 0
    causal = 1 if shape.is_encoder else 2
    attention = 4 * tokens * setup.seq_len * blocks.queries * blocks.count // causal
    adapters = 0
    if not setup.is_full:
        adapters = 2 * tokens * adapter_size(shape.linears, setup.targets, setup.rank)
    inside = inner + attention + adapters
    weights = inner + head if setup.is_full else adapters
    passes = 3 if setup.checkpointing else 2
    return Operations(
        forward=inside + head,
        backward=inner + head + 2 * attention + adapters + weights,
        repeated=inside if setup.checkpointing else 0,
        dequantization=passes * DEQUANTIZE * shape.in_linears if setup.is_quantized else 0,
    )


def relative_cost(shape: ModelShape, setup: Setup) -> float:
    """Operations of `setup` / those of full training on the same tokens without checkpointing."""
    full = Setup(FULL, "float32", batch=setup.batch, seq_len=setup.seq_len)
    return operations(shape, setup).total / operations(shape, full).total
