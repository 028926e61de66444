"""The memory of a GPU while PyTorch, PEFT and bitsandbytes train, by the published formulae.

Nothing of it is measured here; each term says its formula and where it is from. Sizes are bytes.
"""

from collections.abc import Callable, Mapping

from entrenar_common.units import format_binary
from entrenar_core.estimate.setup import Setup
from entrenar_core.estimate.shape import ModelShape
from entrenar_core.estimate.terms import BACKWARD, LOSS, Memory, Term
from entrenar_core.estimate.torch_activations import block_bytes
from entrenar_core.estimate.torch_weights import (
    BASES,
    CONTEXT,
    FRAGMENTS,
    dequantized,
    in_float32,
    weights,
)
from entrenar_core.estimate.trained import trained_sizes

COMPUTED = "computed by published formulae for PyTorch + PEFT + bitsandbytes; not measured"
SMALL_STATE = 4096
"""bitsandbytes keeps the states of parameters with fewer numbers in 32 bits."""


def torch_memory(shape: ModelShape, setup: Setup) -> Memory:
    """The terms of `setup`: a base of `torch_weights.BASES`, an optimizer of `OPTIMIZERS`."""
    terms = [
        *weights(shape, setup.base, others=in_float32(shape)),
        *_trained(shape, setup),
        *_activations(shape, setup),
        _logits(shape, setup),
        dequantized(shape, setup.base, BACKWARD),
    ]
    moving = [t for t in terms if t.name.startswith(("activations", "logits", "dequant"))]
    peak = Memory(tuple(moving), "").total
    terms.append(
        Term(
            "fixed overhead",
            CONTEXT + round(FRAGMENTS * peak),
            "CUDA context 1 GiB (0.3 to 2: vram.asmirnov.xyz) + 5% of what comes and goes, for "
            "fragments (an assumption)",
        )
    )
    return Memory(tuple(terms), COMPUTED)


def _trained(shape: ModelShape, setup: Setup) -> list[Term]:
    """What is trained, its gradients, and what the optimizer remembers of it.

    Full: 2 B of gradients, and in the optimizer 4 B of float32 weights besides its states
    (Rajbhandari et al. 2020, arXiv:1910.02054, §3.1). Adapters are float32 (PEFT's
    autocast_adapter_dtype), so their gradients are too, and there is no second copy.
    """
    sizes = trained_sizes(shape, setup)
    count = sum(sizes)
    state = OPTIMIZERS[setup.optimizer]
    remembered = round(sum(map(state.bytes, sizes)))
    if setup.is_full:
        width = int(BASES[setup.base])
        master = 0 if setup.base == "float32" else 4 * count
        why = f"{state.why}" + (" + 4 B of float32 weights" if master else "")
        return [
            Term("adapters", 0, "none: all weights are trained"),
            Term("gradients", width * count, f"{count:,} × {width} B"),
            Term("optimizer state", master + remembered, why),
        ]
    return [
        Term("adapters", 4 * count, f"Σ rank·(in + out) = {count:,} × 4 B in float32"),
        Term("gradients", 4 * count, f"{count:,} × 4 B, of the adapters alone"),
        Term("optimizer state", remembered, state.why),
    ]


class _State:
    """What an optimizer remembers: bytes for a tensor of n numbers, and that in words."""

    def __init__(self, function: Callable[[int], float], why: str):
        self.bytes, self.why = function, why


def _eight_bit(moments: int) -> Callable[[int], float]:
    """bitsandbytes: 1 B for each number and 4 for each 256; small tensors in 32 bits."""
    return lambda n: moments * (n + 4 * -(-n // 256) if n >= SMALL_STATE else 4 * n)


OPTIMIZERS: Mapping[str, _State] = {
    "adamw": _State(lambda n: 8 * n, "two moments × 4 B"),
    "adamw-8bit": _State(
        _eight_bit(2), "two moments × 1 B + 4 B for 256 (Dettmers et al., arXiv:2110.02861)"
    ),
    "lion": _State(lambda n: 4 * n, "one moment × 4 B"),
    "lion-8bit": _State(_eight_bit(1), "one moment × 1 B + 4 B for 256"),
    "sgd": _State(lambda _: 0, "nothing"),
    "sgd-momentum": _State(lambda n: 4 * n, "one moment × 4 B"),
}


def _activations(shape: ModelShape, setup: Setup) -> list[Term]:
    """What autograd keeps of every block; with checkpointing the input of each, 2 B, and one block
    while it is computed again (Chen et al. 2016, arXiv:1604.06174)."""
    tokens, blocks = setup.tokens, shape.blocks
    one = tokens * block_bytes(shape, setup)
    inputs = 2 * tokens * blocks.hidden * blocks.count
    per_token = f"{block_bytes(shape, setup):,} B a token and block"
    if not setup.checkpointing:
        why = f"{per_token}; with checkpointing {format_binary(inputs + one)}"
        return [Term("activations", one * blocks.count, why)]
    whole = f"without checkpointing {format_binary(one * blocks.count)}"
    return [
        Term("activations kept", inputs, f"the input of each block, 2 B; {whole}"),
        Term("activations of one block", one, f"computed again: {per_token}", BACKWARD),
    ]


def _logits(shape: ModelShape, setup: Setup) -> Term:
    """Logits in 2 B, their float32 copy, its log-softmax, and the gradient of that: 14 B for each
    token and entry of the vocabulary (transformers' loss in float32, without a fused kernel)."""
    if not shape.predicts_tokens:
        return Term("logits", 0, "of a few labels: next to nothing", LOSS)
    return Term(
        "logits",
        14 * setup.tokens * shape.vocabulary,
        f"{setup.tokens:,} tokens × {shape.vocabulary:,} × (2 + 4 + 4 + 4) B",
        LOSS,
    )
