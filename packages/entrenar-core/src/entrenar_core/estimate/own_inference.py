"""The main memory that this library takes to run a model, term by term: what its code allocates
for `models.generate`, or for one pass where a model generates no text."""

from collections.abc import Sequence

from entrenar_core.estimate import own_constants
from entrenar_core.estimate.inference import Inference, cached
from entrenar_core.estimate.own_weights import FLOAT, dequantized, loading, weights
from entrenar_core.estimate.setup import in_few_bits
from entrenar_core.estimate.shape import Blocks, ModelShape
from entrenar_core.estimate.terms import ALWAYS, LOGITS, PREFILL, RUNNING, Memory, Term

COMPUTED = (
    "computed from what this library allocates, with constants measured on real runs: "
    f"{own_constants.FITTED}"
)


def own_inference(shape: ModelShape, inference: Inference) -> Memory:
    """The terms of `inference`, which has a base of `own_weights.BASES`."""
    moving = [_block(shape, inference), *_logits(shape, inference)]
    terms = [
        *weights(shape, inference.base),
        loading(shape, inference.base),
        cached(shape, inference, FLOAT),
        *moving,
        dequantized(inference.base, RUNNING),
        *_overhead(moving, inference.base),
    ]
    return Memory(tuple(terms), COMPUTED)


def _overhead(moving: Sequence[Term], base: str) -> list[Term]:
    """Kernels are loaded when they are first called, which is while a base is quantized, else when
    the blocks begin."""
    memory = Memory(tuple(moving), "")
    smaller = min(memory.of(PREFILL), memory.of(LOGITS))
    fragments = round(own_constants.FRAGMENTS * smaller)
    kernels = own_constants.BASE - own_constants.STARTED
    began = ALWAYS if in_few_bits(base) else RUNNING
    return [
        Term("fixed overhead", own_constants.STARTED, "the process without a model"),
        Term("compiled kernels", kernels, "with their work space, once they are called", began),
        Term("fragments", fragments, "what the allocator cannot use", RUNNING),
    ]


def _block(shape: ModelShape, inference: Inference) -> Term:
    size = block_of_pass(shape, inference)
    why = f"{size // inference.tokens:,} B a token while one block works on all of them"
    return Term("activations of one block", size, why, PREFILL)


def block_of_pass(shape: ModelShape, inference: Inference) -> int:
    """The bytes that are there at once while one block works on the whole input: nothing is kept
    for a way back."""
    numbers = max(_attention(shape), _inner(shape.blocks, shape.is_encoder))
    return FLOAT * inference.tokens * numbers


def _attention(shape: ModelShape) -> int:
    """Of a token, while the result of attention is projected: the embeddings, the block's input,
    its norm, queries, keys, values, the result, and what it is projected to. GPT-2 has the packed
    queries, keys and values as well. An encoder has none of the last two, and no norm, yet."""
    blocks = shape.blocks
    if shape.is_encoder:
        return 2 * blocks.hidden + 2 * blocks.queries + 2 * blocks.keys
    packed = blocks.queries + 2 * blocks.keys if blocks.norms == "layer" else 0
    return 4 * blocks.hidden + packed + 2 * blocks.queries + 2 * blocks.keys


def _inner(blocks: Blocks, is_encoder: bool) -> int:
    """Of a token, while the inner layer is projected back: the embeddings, the block's input, what
    attention made of it, its norm (which an encoder has not), gate and other half or what goes into
    the activation, its result, and the output."""
    carried = 4 if is_encoder else 5
    return carried * blocks.hidden + (3 if blocks.gated else 2) * blocks.inner


def _logits(shape: ModelShape, inference: Inference) -> list[Term]:
    """Of the last position of each sequence where text is generated, of every one in a masked
    language model; and the hidden states that they come from."""
    if not shape.predicts_tokens:
        return [Term("logits", 0, "of a few labels: next to nothing", LOGITS)]
    hidden = FLOAT * inference.tokens * shape.blocks.hidden
    rows = inference.batch if shape.generates else inference.tokens
    which = "of the last position of each sequence alone" if shape.generates else "of every token"
    return [
        Term("hidden states", hidden, "those of the last block", LOGITS),
        Term(
            "logits",
            FLOAT * rows * shape.vocabulary,
            f"{which}: {rows:,} × {shape.vocabulary:,} × 4 B",
            LOGITS,
        ),
    ]
