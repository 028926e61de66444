"""The memory of a GPU while transformers generates with PyTorch, by formulae.

Nothing of it is measured here; each term says its formula. Sizes are bytes.
"""

from collections.abc import Mapping

from entrenar_core.estimate.inference import Inference, cached
from entrenar_core.estimate.shape import ModelShape
from entrenar_core.estimate.terms import LOGITS, PREFILL, Memory, Term
from entrenar_core.estimate.torch_weights import (
    CONTEXT,
    FRAGMENTS,
    dequantized,
    in_bfloat16,
    weights,
)

COMPUTED = "computed by formulae for PyTorch + transformers + bitsandbytes; not measured"

_INNER: Mapping[str, int] = {
    "silu": 3,  # of a gated layer: silu of the gate, the other half, and their product
    "gelu_new": 4,  # composed of x³, tanh and products: the input, half of it, and two steps
}
"""How many arrays as wide as the inner layer are there at once; 2 for one operation on one."""


def torch_inference(shape: ModelShape, inference: Inference) -> Memory:
    """The terms of `inference`, which has a base of `torch_weights.BASES`."""
    width = 4 if inference.base == "float32" else 2
    moving = [
        cached(shape, inference, width),
        _block(shape, inference, width),
        *_logits(shape, inference, width),
        dequantized(shape, inference.base, PREFILL),
    ]
    peak = Memory(tuple(moving), "").total
    terms = [
        *weights(shape, inference.base, others=in_bfloat16(shape)),
        *moving,
        Term(
            "fixed overhead",
            CONTEXT + round(FRAGMENTS * peak),
            "CUDA context 1 GiB (0.3 to 2: vram.asmirnov.xyz) + 5% of what comes and goes, for "
            "fragments (an assumption)",
        ),
    ]
    return Memory(tuple(terms), COMPUTED)


def _block(shape: ModelShape, inference: Inference, width: int) -> Term:
    """What is there at once while one block works on the whole input, in arrays of each token."""
    numbers = max(_attention(shape), _inner(shape), _norm(shape, width))
    why = f"{width * numbers:,} B a token while one block works on all of them"
    return Term("activations of one block", width * inference.tokens * numbers, why, PREFILL)


def _attention(shape: ModelShape) -> int:
    """While queries or keys are turned: embeddings, the block's input and its norm, queries, keys,
    values, and three steps of turning the queries, or those of the keys after the queries. Without
    rotary positions the same before, and the result of attention."""
    blocks = shape.blocks
    turning = max(3 * blocks.queries, blocks.queries + 3 * blocks.keys)
    given = 3 * blocks.hidden + blocks.queries + 2 * blocks.keys
    return given + (turning if blocks.norms == "rms" else blocks.queries)


def _inner(shape: ModelShape) -> int:
    """While the activation is computed: embeddings, the block's input, what attention made of it,
    its norm (which an encoder has not), and arrays as wide as the inner layer."""
    blocks = shape.blocks
    carried = 3 if shape.is_encoder else 4
    return carried * blocks.hidden + _INNER.get(blocks.activation, 2) * blocks.inner


def _norm(shape: ModelShape, width: int) -> int:
    """While RMSNorm scales: embeddings, the block's input, what attention made of it, and two
    float32 copies of that."""
    copies = 4 // width
    return (3 + 2 * copies) * shape.blocks.hidden if shape.blocks.norms == "rms" else 0


def _logits(shape: ModelShape, inference: Inference, width: int) -> list[Term]:
    """Since transformers 4.45, `generate` asks for those of the last position alone
    (num_logits_to_keep, now logits_to_keep), and makes a float32 copy of them; before, and in a
    model that generates no text, they are those of every token."""
    if not shape.predicts_tokens:
        return [Term("logits", 0, "of a few labels: next to nothing", LOGITS)]
    hidden = width * inference.tokens * shape.blocks.hidden
    if shape.generates:
        rows, each = inference.batch, width + 4
        which = "of the last position of each sequence alone, as transformers 4.45 and later do: "
        how = f"({width} + 4) B"
    else:
        rows, each, which, how = inference.tokens, width, "of every token: ", f"{width} B"
    why = f"{which}{rows:,} × {shape.vocabulary:,} × {how}"
    return [
        Term("hidden states", hidden, "those of the last block", LOGITS),
        Term("logits", each * rows * shape.vocabulary, why, LOGITS),
    ]
