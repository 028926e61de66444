"""Attention and its position embedding."""

import numpy as np

from entrenar_common.errors import ShapeError
from entrenar_core import kernels
from entrenar_core.autograd.op import op
from entrenar_core.autograd.tape import joint


@op
def rope(x, cos, sin):
    """Rotary position embedding of x (B, T, H, D) with tables cos, sin (T, D/2) or (B, T, D/2)."""
    y = kernels.rope(x, cos, sin)
    return y, (lambda g: kernels.rope(g, cos, sin, inverse=True), None, None)


@op
def attention(
    q, k, v, bias=None, *, scale, causal=True, window=None, mask=None, dropout=0.0, key=0, needs
):  # fmt: skip
    """Attention with grouped queries: q (B, T, H, D); k, v (B, S, G, D) → (B, T, H, D).

    softmax(scale · q kᵀ + bias) v over the keys that a query may see. The last query stands at
    the last key: query t is at position p = S − T + t. It sees key s where s ≤ p if `causal`,
    s > p − `window` if that is given, and mask[b, s] if `mask` (B, S) is given; a query that sees
    nothing gives 0. `bias` is broadcast to (B, H, T, S). `dropout` drops weights by the counters of
    `key`. Memory is linear in the sequence lengths, but for the bias's own gradient.
    """
    _check(q, k, v, bias, mask)
    options = {
        "scale": scale, "causal": causal, "window": window, "mask": mask, "bias": bias,
        "dropout": dropout, "key": key,
    }  # fmt: skip
    o, lse = kernels.attention(q, k, v, **options)

    def pull(g):
        g = np.ascontiguousarray(g)
        return kernels.attention_grad(g, q, k, v, o, lse, needs_bias=needs[3], **options)

    return o, (joint(pull, 4),)


def _check(q, k, v, bias, mask):
    if q.ndim != 4 or k.ndim != 4 or k.shape != v.shape or _misfit(q, k):
        raise ShapeError(
            f"attention: q {q.shape}, k {k.shape} and v {v.shape} do not fit",
            hint="k and v have one shape, at least as many positions as q, and a number of heads "
            "that divides q's",
        )
    b, t, h, _ = q.shape
    s = k.shape[1]
    if mask is not None and (mask.shape != (b, s) or mask.dtype != bool):
        raise ShapeError(
            f"attention: mask {mask.dtype} {mask.shape} for {b} sequences of {s} keys",
            hint=f"give booleans of shape ({b}, {s}), True for the keys that count",
        )
    if bias is not None:
        try:
            np.broadcast_to(bias, (b, h, t, s))
        except ValueError:
            raise ShapeError(
                f"attention: bias {bias.shape} does not broadcast to {(b, h, t, s)}",
                hint="its axes are (batch, heads, queries, keys)",
            ) from None


def _misfit(q, k):
    (b, t, h, d), (batch, s, groups, width) = q.shape, k.shape
    return b != batch or d != width or s < t or groups == 0 or h % groups
