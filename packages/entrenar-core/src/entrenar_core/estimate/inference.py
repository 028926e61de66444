"""One way of running a model, and what both engines keep of it: the keys and values."""

from dataclasses import dataclass

from entrenar_core.estimate.shape import ModelShape
from entrenar_core.estimate.terms import RUNNING, Term


@dataclass(frozen=True)
class Inference:
    """`batch` sequences of `seq_len` tokens each, the generated ones included, through a model
    whose weights are in the precision `base`."""

    base: str
    batch: int = 1
    seq_len: int = 2048

    @property
    def tokens(self) -> int:
        """The tokens of all sequences."""
        return self.batch * self.seq_len


def cached(shape: ModelShape, inference: Inference, width: int) -> Term:
    """Keys and values of all positions in all blocks, `width` bytes each.

    A window on attention changes nothing: `models.cache` keeps every position, and transformers'
    DynamicCache holds the keys of a whole prefill, of which it shows the window.
    """
    if not shape.generates:
        return Term("KV cache", 0, "none: the model generates no text", RUNNING)
    blocks = shape.blocks
    size = 2 * blocks.count * blocks.keys * inference.tokens * width
    why = (
        f"2 × {blocks.count} blocks × {blocks.keys:,} (heads of keys × their width) × "
        f"{inference.batch} × {inference.seq_len:,} tokens × {width} B"
    )
    return Term("KV cache", size, why, RUNNING)
