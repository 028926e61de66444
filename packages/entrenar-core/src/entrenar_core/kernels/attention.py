"""Rotary position embedding and scaled dot-product attention with grouped queries."""

from entrenar_core.kernels.dropout import kept
from entrenar_core.kernels.registry import array_module, kernel


@kernel
def rope(x, cos, sin, *, inverse=False):
    """Rotate the pairs (x[j], x[j + D/2]) of every head by the angle of their position.

    x (B, T, H, D); cos, sin (T, D/2), or (B, T, D/2) where positions differ between sequences
    → (B, T, H, D). `inverse` applies the transposed rotation, which is the gradient.
    Source: Su et al. 2021, arXiv:2104.09864, in the half-split layout of the Hugging Face
    checkpoints.
    """
    xp = array_module(x)
    half = x.shape[-1] // 2
    first, second = x[..., :half], x[..., half:]
    c, s = cos[..., None, :], -sin[..., None, :] if inverse else sin[..., None, :]  # (.., 1, D/2)
    return xp.concatenate([first * c - second * s, second * c + first * s], axis=-1)


@kernel
def attention(
    q, k, v, *, scale, causal=True, window=None, mask=None, first=None, bias=None, dropout=0.0,
    key=0,
):  # fmt: skip
    """softmax(scale · q kᵀ + bias) v per head, over the keys that a query may see.

    q (B, T, H, D); k, v (B, S, G, D) with H a multiple of G. Query t stands at position
    p = S − T + t. It sees key s where all of these hold: s ≤ p if `causal`; s > p − window if
    there is a `window`; s ≥ first[b, t] if there is a `first` (B, T) of integers; mask[b, s] if
    there is a `mask` (B, S) of booleans. `bias`, broadcast to (B, H, T, S), is added to the scaled
    scores. A query that sees no key gives 0.
    With `dropout` p, each weight is kept with probability 1 − p and divided by it, by the counter
    ((b·H + h)·T + t)·S + s of `key` (see `dropout.kept`).
    Returns o (B, T, H, D) and the log-sum-exp of the scores (B, H, T), +∞ where no key is seen.
    """
    xp = array_module(q)
    weights, lse = _softmax(xp, seen_scores(xp, q, k, scale, causal, window, mask, first, bias))
    if dropout:
        weights *= kept_weights(xp, q, k, dropout, key)
    o = xp.einsum("bgrts,bsgd->btgrd", weights, v).reshape(q.shape)
    return xp.ascontiguousarray(o), lse.reshape(q.shape[0], q.shape[2], q.shape[1])


@kernel
def attention_weights(
    q, k, *, scale, causal=True, window=None, mask=None, first=None, bias=None
):  # fmt: skip
    """The probabilities (B, H, T, S) by which `attention` weighs the values: 0 for a key that is
    not seen, and in all of the row of a query that sees none."""
    xp = array_module(q)
    b, t, h, _ = q.shape
    scores = seen_scores(xp, q, k, scale, causal, window, mask, first, bias)
    return _softmax(xp, scores)[0].reshape(b, h, t, k.shape[1])


@kernel
def attention_weights_grad(g, q, k, weights, *, scale, bias_shape=None):
    """The gradients of `attention_weights`: dq (B, T, H, D), dk (B, S, G, D), and the bias's, which
    has `bias_shape`, None without.

    dS = P·(g − rowsum(g·P)), dQ = scale·dS K, dK = scale·dSᵀQ.
    """
    xp = array_module(g)
    b, t, h, d = q.shape
    s, groups = k.shape[1:3]
    ds = weights * (g - (g * weights).sum(axis=-1, keepdims=True))  # (B, H, T, S)
    dbias = None if bias_shape is None else summed_to(ds, bias_shape)
    ds = ds.reshape(b, groups, h // groups, t, s) * q.dtype.type(scale)
    dq = xp.einsum("bgrts,bsgd->btgrd", ds, k).reshape(q.shape)
    dk = xp.einsum("bgrts,btgrd->bsgd", ds, q.reshape(b, t, groups, h // groups, d))
    return xp.ascontiguousarray(dq), xp.ascontiguousarray(dk), dbias


@kernel
def attention_grad(
    g, q, k, v, o, lse, *, scale, causal=True, window=None, mask=None, first=None, bias=None,
    dropout=0.0, key=0, needs_bias=False,
):  # fmt: skip
    """The gradients of `attention`: dq (B, T, H, D), dk and dv (B, S, G, D), and dbias.

    The weights are recomputed from lse: P = exp(S − lse), M = kept / (1 − dropout),
    dV = (P·M)ᵀg, dP = (g Vᵀ)·M, dS = P·(dP − rowsum(g·o)), dQ = scale·dS K, dK = scale·dSᵀQ.
    dbias is dS summed to the shape of `bias`, or None unless `needs_bias`.
    Source: Dao et al. 2022, arXiv:2205.14135, appendix B.
    """
    xp = array_module(g)
    b, t, h, d = q.shape
    s, groups = k.shape[1:3]
    scores = seen_scores(xp, q, k, scale, causal, window, mask, first, bias)
    weights = xp.exp(scores - lse.reshape(b, groups, h // groups, t, 1))
    grouped = (b, t, groups, h // groups, d)
    g5, q5 = g.reshape(grouped), q.reshape(grouped)
    dp = xp.einsum("btgrd,bsgd->bgrts", g5, v)
    used = weights
    if dropout:
        factor = kept_weights(xp, q, k, dropout, key)
        dp *= factor
        used = weights * factor
    dv = xp.einsum("bgrts,btgrd->bsgd", used, g5)
    # this is rowsum(g·o), and dp to the bit where a query sees one key: its gradient is then 0
    del o
    ds = weights * (dp - (weights * dp).sum(axis=-1, keepdims=True))
    dbias = None
    if bias is not None and needs_bias:
        dbias = summed_to(ds.reshape(b, h, t, s), bias.shape)
    ds *= q.dtype.type(scale)
    dq = xp.einsum("bgrts,bsgd->btgrd", ds, k).reshape(q.shape)
    dk = xp.einsum("bgrts,btgrd->bsgd", ds, q5)
    return (*(xp.ascontiguousarray(array) for array in (dq, dk, dv)), dbias)


def seen_scores(xp, q, k, scale, causal, window, mask, first, bias):
    """Scaled scores (B, G, H/G, T, S), −∞ where a query may not look."""
    b, t, h, d = q.shape
    s, groups = k.shape[1:3]
    grouped = q.reshape(b, t, groups, h // groups, d)
    scores = xp.einsum("btgrd,bsgd->bgrts", grouped, k) * q.dtype.type(scale)
    if bias is not None:
        wide = xp.broadcast_to(bias, (b, h, t, s))
        scores += wide.reshape(b, groups, h // groups, t, s)
    keys, positions = xp.arange(s)[None, :], xp.arange(t)[:, None] + (s - t)
    visible = xp.ones((t, s), bool)
    if causal:
        visible &= keys <= positions
    if window is not None:
        visible &= keys > positions - window
    if first is not None:
        visible = visible & (keys >= first[:, None, None, :, None])
    if mask is not None:
        visible = visible & mask[:, None, None, None, :]
    return xp.where(visible, scores, q.dtype.type(-xp.inf))


def _softmax(xp, scores):
    """The softmax of each row and its log-sum-exp: 0 and +∞ for a row of −∞."""
    # a finite peak for a row of −∞, and NaN stays NaN; without keys there is nothing but the peak
    lowest = xp.finfo(scores.dtype).min
    peak = scores.max(axis=-1, keepdims=True, initial=lowest)
    weights = xp.exp(scores - peak)
    total = weights.sum(axis=-1, keepdims=True)
    empty = total == 0
    total = xp.where(empty, scores.dtype.type(1), total)
    weights /= total
    return weights, xp.where(empty, scores.dtype.type(xp.inf), peak + xp.log(total))


def kept_weights(xp, q, k, dropout, key):
    """1/(1 − dropout) for kept weights and 0 for dropped ones, (B, G, H/G, T, S)."""
    b, t, h, _ = q.shape
    s, groups = k.shape[1:3]
    chosen = kept(xp, key, b * h * t * s, dropout).reshape(b, groups, h // groups, t, s)
    return chosen * q.dtype.type(1 / (1 - dropout))


def summed_to(gradient, shape):
    """`gradient` (B, H, T, S) summed over the axes along which `shape` was broadcast."""
    full = (1,) * (4 - len(shape)) + tuple(shape)
    axes = tuple(i for i, n in enumerate(full) if n == 1 and gradient.shape[i] != 1)
    return gradient.sum(axis=axes, keepdims=True).reshape(shape)
