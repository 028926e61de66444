"""Rotary position embedding and causal scaled dot-product attention with grouped queries."""

from entrenar_core.kernels.registry import array_module, kernel


@kernel
def rope(x, cos, sin, *, inverse=False):
    """Rotate the pairs (x[j], x[j + D/2]) of every head by the angle of their position.

    x (B, T, H, D); cos, sin (T, D/2) → (B, T, H, D). `inverse` applies the transposed rotation,
    which is the gradient. Source: Su et al. 2021, arXiv:2104.09864, in the half-split layout of
    the Hugging Face checkpoints.
    """
    xp = array_module(x)
    half = x.shape[-1] // 2
    first, second = x[..., :half], x[..., half:]
    c, s = cos[:, None, :], -sin[:, None, :] if inverse else sin[:, None, :]  # (T, 1, D/2)
    return xp.concatenate([first * c - second * s, second * c + first * s], axis=-1)


@kernel
def attention(q, k, v, *, scale):
    """softmax(scale · q kᵀ, causal) v per head.

    q (B, T, H, D); k, v (B, S, G, D) with H a multiple of G and S ≥ T; query t sees the keys
    0 … S − T + t. Returns o (B, T, H, D) and the log-sum-exp of the scores (B, H, T).
    """
    xp = array_module(q)
    scores = _scores(xp, q, k, scale)  # (B, G, R, T, S)
    peak = scores.max(axis=-1, keepdims=True)
    weights = xp.exp(scores - peak)
    total = weights.sum(axis=-1, keepdims=True)
    weights /= total
    o = xp.einsum("bgrts,bsgd->btgrd", weights, v).reshape(q.shape)
    lse = (peak + xp.log(total))[..., 0].reshape(q.shape[0], q.shape[2], q.shape[1])
    return xp.ascontiguousarray(o), lse


@kernel
def attention_grad(g, q, k, v, o, lse, *, scale):
    """The gradients of `attention`: dq (B, T, H, D), dk and dv (B, S, G, D).

    The weights are recomputed from lse: P = exp(S − lse), dV = Pᵀg, dP = g Vᵀ,
    dS = P·(dP − rowsum(g·o)), dQ = scale·dS K, dK = scale·dSᵀQ.
    Source: Dao et al. 2022, arXiv:2205.14135, appendix B.
    """
    xp = array_module(g)
    b, t, h, d = q.shape
    groups = k.shape[2]
    weights = xp.exp(_scores(xp, q, k, scale) - lse.reshape(b, groups, -1, t, 1))
    grouped = (b, t, groups, h // groups, d)
    g5, o5, q5 = g.reshape(grouped), o.reshape(grouped), q.reshape(grouped)
    dv = xp.einsum("bgrts,btgrd->bsgd", weights, g5)
    dp = xp.einsum("btgrd,bsgd->bgrts", g5, v)
    row = xp.einsum("btgrd,btgrd->bgrt", g5, o5)
    ds = weights * (dp - row[..., None]) * q.dtype.type(scale)
    dq = xp.einsum("bgrts,bsgd->btgrd", ds, k).reshape(q.shape)
    dk = xp.einsum("bgrts,btgrd->bsgd", ds, q5)
    return xp.ascontiguousarray(dq), xp.ascontiguousarray(dk), xp.ascontiguousarray(dv)


def _scores(xp, q, k, scale):
    """Scaled scores (B, G, H/G, T, S), −∞ where a query may not look."""
    b, t, h, d = q.shape
    s, groups = k.shape[1:3]
    grouped = q.reshape(b, t, groups, h // groups, d)
    scores = xp.einsum("btgrd,bsgd->bgrts", grouped, k) * q.dtype.type(scale)
    visible = xp.arange(s)[None, :] <= xp.arange(t)[:, None] + (s - t)  # (T, S)
    return xp.where(visible, scores, q.dtype.type(-xp.inf))
