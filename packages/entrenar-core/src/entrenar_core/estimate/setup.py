"""One way of training a model: what is frozen and in which precision, what is adapted, and how
much of the data is worked on at once."""

from dataclasses import dataclass

FULL, LORA = "full", "lora"

FLOATS = ("float32", "bfloat16")
"""Precisions of a base in floats. All others are formats of few bits: int8, nf4, and for this
library ggml's types of blocks, such as q4_k. With them LoRA is called QLoRA."""


def in_few_bits(base: str) -> bool:
    """Whether a precision is a format of few bits."""
    return base not in FLOATS


@dataclass(frozen=True)
class Setup:
    """`method` is full (everything is trained) or lora; `base` the precision of the model's own
    weights; `targets` names of modules and `rank` those of the adapters, none for full.

    batch: the sequences that are worked on at once; accumulation: how often, before a step of the
    optimizer; checkpointing: the activations of a block are computed again on the way back.
    """

    method: str
    base: str
    targets: tuple[str, ...] = ()
    rank: int = 0
    optimizer: str = "adamw"
    batch: int = 1
    accumulation: int = 1
    seq_len: int = 2048
    checkpointing: bool = False

    @property
    def is_full(self) -> bool:
        return self.method == FULL

    @property
    def is_quantized(self) -> bool:
        return in_few_bits(self.base)

    @property
    def tokens(self) -> int:
        """The tokens that are worked on at once."""
        return self.batch * self.seq_len
