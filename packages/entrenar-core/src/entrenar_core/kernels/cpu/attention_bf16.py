"""`kernels.attention_bf16` in tiles, where the processor multiplies bfloat16 numbers.

Elsewhere the reference computes a block of queries after the other, so that only their scores exist
at once. Dropout and biases, which are numbered and broadcast over all of them, it sees whole.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np

from entrenar_core.kernels.cpu.attention_plan import backward_in_tiles, forward_in_tiles
from entrenar_core.kernels.cpu.matmul_bf16 import AVAILABLE
from entrenar_core.kernels.registry import KERNELS, override

BLOCK = 256
"""Queries of one head whose scores exist at once, where the reference computes them."""


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


def _blocks(q, k, causal, mask, first) -> Iterator[tuple[Any, Any, dict[str, Any]]]:
    """Where in q, and where in k, a block of queries of one group of heads lies, with the options
    that it has for itself; if `causal`, of the keys only those that it may see."""
    (batch, time, heads, _), (keys, groups) = q.shape, k.shape[1:3]
    each = heads // groups
    for b, group, block in np.ndindex(batch, groups, -(-time // BLOCK)):
        start, stop = block * BLOCK, min(time, (block + 1) * BLOCK)
        seen = keys - time + stop if causal else keys  # the last query stands at the last key
        row = slice(b, b + 1)
        options = {
            "mask": None if mask is None else mask[row, :seen],
            "first": None if first is None else first[row, start:stop],
        }
        queries = row, slice(start, stop), slice(group * each, (group + 1) * each)
        yield queries, (row, slice(seen), slice(group, group + 1)), options


def _in_blocks(
    q, k, v, *, scale, causal=True, window=None, mask=None, first=None, bias=None, dropout=0.0,
    key=0,
):  # fmt: skip
    reference = KERNELS["attention_bf16.attention_bf16"].reference
    if not _cuts(causal, window, bias, dropout):
        return reference(
            q, k, v, scale=scale, causal=causal, window=window, mask=mask, first=first, bias=bias,
            dropout=dropout, key=key,
        )  # fmt: skip
    o = np.empty(q.shape, q.dtype)
    lse = np.empty((q.shape[0], q.shape[2], q.shape[1]), q.dtype)
    for queries, seen, own in _blocks(q, k, causal, mask, first):
        row, times, heads = queries
        found = reference(
            q[queries], k[seen], v[seen], scale=scale, causal=causal, window=window, **own
        )
        o[queries], lse[row, heads, times] = found
    return o, lse


def _in_blocks_grad(
    g, q, k, v, o, lse, *, scale, causal=True, window=None, mask=None, first=None, bias=None,
    dropout=0.0, key=0, needs_bias=False,
):  # fmt: skip
    reference = KERNELS["attention_bf16.attention_bf16_grad"].reference
    if not _cuts(causal, window, bias, dropout):
        return reference(
            g, q, k, v, o, lse, scale=scale, causal=causal, window=window, mask=mask, first=first,
            bias=bias, dropout=dropout, key=key, needs_bias=needs_bias,
        )  # fmt: skip
    dq, dk, dv = np.empty(q.shape, q.dtype), np.zeros(k.shape, q.dtype), np.zeros(k.shape, q.dtype)
    for queries, seen, own in _blocks(q, k, causal, mask, first):
        row, times, heads = queries
        dq[queries], of_keys, of_values, _ = reference(
            g[queries], q[queries], k[seen], v[seen], o[queries], lse[row, heads, times],
            scale=scale, causal=causal, window=window, **own,
        )  # fmt: skip
        dk[seen] += of_keys
        dv[seen] += of_values
    return dq, dk, dv, None


def _cuts(causal, window, bias, dropout) -> bool:
    """Whether blocks of queries can be computed by themselves. Dropout counts all of them, a bias
    is broadcast over them, and a window asks for their places, which only causal ones have."""
    return bias is None and not dropout and (causal or window is None)


if AVAILABLE:
    from entrenar_core.kernels.cpu import attention_pairs

_forward, _backward = (
    (_attention_bf16, _attention_bf16_grad) if AVAILABLE else (_in_blocks, _in_blocks_grad)
)
override("attention_bf16.attention_bf16", "float32")(_forward)
override("attention_bf16.attention_bf16_grad", "float32")(_backward)
