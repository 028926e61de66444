"""Attention whose matrix products are of bfloat16 numbers, summed in float32."""

import math

from entrenar_core.kernels.attention import kept_weights, seen_scores, summed_to
from entrenar_core.kernels.matmul_bf16 import as_bfloat16
from entrenar_core.kernels.registry import array_module, kernel

FAR = 2.0**20
"""Peaks of this size are not rounded: whole multiples of ln 2 are not told apart any more."""


@kernel
def attention_bf16(
    q, k, v, *, scale, causal=True, window=None, mask=None, first=None, bias=None, dropout=0.0,
    key=0,
):  # fmt: skip
    """`attention`, with the operands of its two products rounded to bfloat16.

    With bf(x) for x rounded, and C for 1 where a weight is kept and 0 where it is dropped:

        S = scale · bf(q) bf(k)ᵀ + bias     E = exp(S − c)
        o = (bf(E)·C) bf(v) / (1 − dropout) / rowsum(bf(E))     lse = c + log rowsum(E)

    c is the row's peak, rounded to a multiple of ln 2 (`next_to_peak`). Another c multiplies E by a
    power of two and leaves its digits, so what is rounded does not depend on which peak was known
    when a weight was computed: a block of keys may be done before the row's peak is seen. The
    rounded weights are divided by their own sum, so they add up to 1, and a query that sees one key
    gets bf(v) of it. Everything else is float32: bias, softmax, dropout and the log-sum-exp.
    """
    xp = array_module(q)
    near_k, near_v = as_bfloat16(k), as_bfloat16(v)
    scores = seen_scores(xp, as_bfloat16(q), near_k, scale, causal, window, mask, first, bias)
    weights, total, lse = _softened(xp, scores)
    if dropout:
        weights *= kept_weights(xp, q, k, dropout, key) != 0
        total = total * q.dtype.type(1 - dropout)
    o = xp.einsum("bgrts,bsgd->bgrtd", weights, near_v) / total
    o = o.transpose(0, 3, 1, 2, 4).reshape(q.shape)
    lse = lse.astype(q.dtype, copy=False).reshape(q.shape[0], q.shape[2], q.shape[1])
    return xp.ascontiguousarray(o), lse


@kernel
def attention_bf16_grad(
    g, q, k, v, o, lse, *, scale, causal=True, window=None, mask=None, first=None, bias=None,
    dropout=0.0, key=0, needs_bias=False,
):  # fmt: skip
    """The gradients of `attention_bf16`, with the operands of products rounded to bfloat16.

    With S and bf as there, P = exp(S − lse), M = C / (1 − dropout):

        dV = bf(P·M)ᵀ bf(g)     dP = (bf(g) bf(v)ᵀ)·M     dS = P·(dP − rowsum(bf(g)·o))
        dQ = scale · bf(dS) bf(k)     dK = scale · bf(dS)ᵀ bf(q)

    dbias is dS, which is not rounded for it, summed to the shape of `bias`.
    """
    xp = array_module(g)
    b, t, h, d = q.shape
    s, groups = k.shape[1:3]
    grouped = (b, t, groups, h // groups, d)
    g, q, near_k = as_bfloat16(g), as_bfloat16(q), as_bfloat16(k)
    scores = seen_scores(xp, q, near_k, scale, causal, window, mask, first, bias)
    weights = xp.exp(scores - lse.reshape(b, groups, h // groups, t, 1))
    g5, q5 = g.reshape(grouped), q.reshape(grouped)
    dp = xp.einsum("btgrd,bsgd->bgrts", g5, as_bfloat16(v))
    used = weights
    if dropout:
        factor = kept_weights(xp, q, k, dropout, key)
        dp *= factor
        used = weights * factor
    dv = xp.einsum("bgrts,btgrd->bsgd", as_bfloat16(used), g5)
    # this is rowsum(bf(g)·o), and dp to the bit where a query sees one key: its gradient is then 0
    del o
    near, total, _ = _softened(xp, scores)
    ds = weights * (dp - (near / total * dp).sum(axis=-1, keepdims=True))
    dbias = None
    if bias is not None and needs_bias:
        dbias = summed_to(ds.reshape(b, h, t, s), bias.shape)
    ds = as_bfloat16(ds)
    dq = xp.einsum("bgrts,bsgd->btgrd", ds, near_k).reshape(q.shape)
    dk = xp.einsum("bgrts,btgrd->bsgd", ds, q5)
    dq *= q.dtype.type(scale)
    dk *= q.dtype.type(scale)
    return (*(xp.ascontiguousarray(array) for array in (dq, dk, dv)), dbias)


def _softened(xp, scores):
    """exp(score − c), rounded, and of each row their sum, 1 where it is 0, and the log-sum-exp."""
    kind = scores.dtype.type
    lowest = xp.finfo(scores.dtype).min
    shift = next_to_peak(xp, scores.max(axis=-1, keepdims=True, initial=lowest))
    weights = xp.exp(scores - shift)
    total = weights.sum(axis=-1, keepdims=True)
    empty = total == 0
    lse = xp.where(empty, kind(xp.inf), shift + xp.log(xp.where(empty, 1, total)))
    near = as_bfloat16(weights)
    return near, xp.where(empty, kind(1), near.sum(axis=-1, keepdims=True)), lse


def next_to_peak(xp, peak):
    """The multiples of ln 2 next to `peak`, or what is there as it is from `FAR` on."""
    near = xp.abs(peak) < FAR
    count = xp.rint(xp.where(near, peak, 0) * peak.dtype.type(1 / math.log(2)))
    return xp.where(near, count * peak.dtype.type(math.log(2)), peak)
