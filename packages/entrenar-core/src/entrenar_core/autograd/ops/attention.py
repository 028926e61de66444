"""Attention and its position embedding."""

import numpy as np

from entrenar_common.errors import ShapeError
from entrenar_core import kernels
from entrenar_core.autograd.op import op
from entrenar_core.autograd.tape import joint


@op
def rope(x, cos, sin):
    """Rotary position embedding of x (B, T, H, D) with tables cos, sin (T, D/2)."""
    y = kernels.rope(x, cos, sin)
    return y, (lambda g: kernels.rope(g, cos, sin, inverse=True), None, None)


@op
def attention(q, k, v, *, scale):
    """Causal attention with grouped queries: q (B, T, H, D); k, v (B, S, G, D) → (B, T, H, D).

    Query t sees keys 0 … S − T + t. Memory is linear in the sequence lengths.
    """
    if q.shape[2] % k.shape[2] or k.shape != v.shape or k.shape[1] < q.shape[1]:
        raise ShapeError(
            f"attention: q {q.shape}, k {k.shape} and v {v.shape} do not fit",
            hint="k and v have one shape, at least as many positions as q, and a number of heads "
            "that divides q's",
        )
    o, lse = kernels.attention(q, k, v, scale=scale)

    def pull(g):
        return kernels.attention_grad(np.ascontiguousarray(g), q, k, v, o, lse, scale=scale)

    return o, (joint(pull, 3),)
