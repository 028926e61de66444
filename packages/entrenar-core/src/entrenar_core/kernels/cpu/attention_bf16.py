"""`kernels.attention_bf16` in tiles, where the processor multiplies bfloat16 numbers."""

from entrenar_core.kernels.cpu.attention_plan import backward_in_tiles, forward_in_tiles
from entrenar_core.kernels.cpu.matmul_bf16 import AVAILABLE
from entrenar_core.kernels.registry import override


def _attention_bf16(
    q, k, v, *, scale, causal=True, window=None, mask=None, first=None, bias=None, dropout=0.0,
    key=0,
):  # fmt: skip
    options = {
        "scale": scale, "causal": causal, "window": window, "mask": mask, "first": first,
        "dropout": dropout, "key": key,
    }  # fmt: skip
    size = attention_pairs.forward_scratch_size
    return forward_in_tiles(attention_pairs.forward, size, q, k, v, bias, options)


def _attention_bf16_grad(
    g, q, k, v, o, lse, *, scale, causal=True, window=None, mask=None, first=None, bias=None,
    dropout=0.0, key=0, needs_bias=False,
):  # fmt: skip
    options = {
        "scale": scale, "causal": causal, "window": window, "mask": mask, "first": first,
        "dropout": dropout, "key": key,
    }  # fmt: skip
    given = g, q, k, v, o, lse, bias, needs_bias
    size = attention_pairs.backward_scratch_size
    return backward_in_tiles(attention_pairs.backward, size, given, options)


if AVAILABLE:
    from entrenar_core.kernels.cpu import attention_pairs

    override("attention_bf16.attention_bf16", "float32")(_attention_bf16)
    override("attention_bf16.attention_bf16_grad", "float32")(_attention_bf16_grad)
