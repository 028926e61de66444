"""Attention and its position embedding."""

import math
from numbers import Integral, Real

import numpy as np

from entrenar_common.errors import ConfigError, ShapeError
from entrenar_core import kernels
from entrenar_core.autograd.op import op
from entrenar_core.autograd.precision import products
from entrenar_core.autograd.tape import joint


@op
def rope(x, cos, sin):
    """Rotary position embedding of x (B, T, H, D) with tables cos, sin (T, D/2) or (B, T, D/2).

    The pairs (x[j], x[j + D/2]) of every head are turned by the angle of their position. The tables
    are constants. Source: Su et al. 2021, arXiv:2104.09864.
    """
    _check_rope(x, cos, sin)
    y = kernels.rope(x, cos, sin)
    return y, (lambda g: kernels.rope(g, cos, sin, inverse=True), None, None)


@op
def attention(
    q, k, v, bias=None, *, scale, causal=True, window=None, mask=None, first=None, dropout=0.0,
    key=0, needs,
):  # fmt: skip
    """Attention with grouped queries: q (B, T, H, D); k, v (B, S, G, D) → (B, T, H, D).

    softmax(scale · q kᵀ + bias) v over the keys that a query may see. The last query stands at
    the last key: query t is at position p = S − T + t. It sees key s where s ≤ p if `causal`,
    s > p − `window` if that is given, s ≥ first[b, t] if `first` (B, T) is given, and mask[b, s] if
    `mask` (B, S) is given; a query that sees nothing gives 0. With `first`, which is where the
    query's document begins, a row of many documents takes the time of the documents by themselves.
    `bias` is broadcast to (B, H, T, S). `dropout` drops weights by the counters of `key`. Memory is
    linear in the sequence lengths, but for the bias's own gradient.
    Raises ShapeError for arrays that do not fit, ConfigError for an option out of its range.
    """
    mask, first = _array(mask), _array(first)
    _check("attention", q, k, v, bias, mask, first)
    _check_options("attention", scale, window, dropout, key)
    options = {
        "scale": scale, "causal": causal, "window": window, "mask": mask, "first": first,
        "bias": bias, "dropout": dropout, "key": key,
    }  # fmt: skip
    by = products()
    o, lse = by.attention(q, k, v, **options)

    def pull(g):
        return by.attention_grad(g, q, k, v, o, lse, needs_bias=needs[3], **options)

    return o, (joint(pull, 4),)


@op
def attention_weights(
    q, k, bias=None, *, scale, causal=True, window=None, mask=None, first=None, needs
):  # fmt: skip
    """The weights of `attention`: q (B, T, H, D); k (B, S, G, D) → (B, H, T, S).

    softmax(scale · q kᵀ + bias), and 0 where a query may not look, with the options of `attention`.
    All of them exist at once, so memory is quadratic: this is for looking at attention and for
    teaching with it, not for computing it.
    """
    mask, first = _array(mask), _array(first)
    _check("attention_weights", q, k, k, bias, mask, first)
    _check_options("attention_weights", scale, window, 0.0, 0)
    weights = kernels.attention_weights(
        q, k, scale=scale, causal=causal, window=window, mask=mask, first=first, bias=bias
    )
    bias_shape = bias.shape if bias is not None and needs[2] else None

    def pull(g):
        return kernels.attention_weights_grad(g, q, k, weights, scale=scale, bias_shape=bias_shape)

    return weights, (joint(pull, 3),)


def _check_rope(x, cos, sin):
    if x.ndim != 4 or x.shape[3] % 2:
        raise ShapeError(
            f"rope: x {x.shape} is not (batch, time, heads, width) with an even width",
            hint="reshape the projections to heads first",
        )
    batch, time, _, width = x.shape
    fitting = (time, width // 2), (batch, time, width // 2)
    if np.shape(cos) != np.shape(sin) or np.shape(cos) not in fitting:
        raise ShapeError(
            f"rope: tables cos {np.shape(cos)} and sin {np.shape(sin)} for x {x.shape}",
            hint=f"both have shape {fitting[0]}, or {fitting[1]} where positions differ between "
            "sequences",
        )


def _array(given):
    return None if given is None else np.asarray(given)


def _check(name, q, k, v, bias, mask, first):
    if q.ndim != 4 or k.ndim != 4 or k.shape != v.shape or _misfit(q, k):
        raise ShapeError(
            f"{name}: q {q.shape}, k {k.shape} and v {v.shape} do not fit",
            hint="k and v have one shape, at least as many positions as q, and a number of heads "
            "that divides q's",
        )
    b, t, h, _ = q.shape
    s = k.shape[1]
    if mask is not None and (mask.shape != (b, s) or mask.dtype != bool):
        raise ShapeError(
            f"{name}: mask {mask.dtype} {mask.shape} for {b} sequences of {s} keys",
            hint=f"give booleans of shape ({b}, {s}), True for the keys that count",
        )
    if first is not None and (first.shape != (b, t) or first.dtype.kind not in "iu"):
        raise ShapeError(
            f"{name}: first {first.dtype} {first.shape} for {b} sequences of {t} queries",
            hint=f"give integers of shape ({b}, {t}), the first key that each query may see",
        )
    if bias is not None and not _broadcasts(bias.shape, (b, h, t, s)):
        raise ShapeError(
            f"{name}: bias {bias.shape} does not broadcast to {(b, h, t, s)}",
            hint="its axes are (batch, heads, queries, keys)",
        )


def _misfit(q, k):
    (b, t, h, d), (batch, s, groups, width) = q.shape, k.shape
    return b != batch or d != width or s < t or groups == 0 or h % groups


def _broadcasts(shape, full):
    pairs = zip(reversed(shape), reversed(full), strict=False)
    return len(shape) <= len(full) and all(n in (1, whole) for n, whole in pairs)


def _check_options(name, scale, window, dropout, key):
    if not isinstance(scale, Real) or not math.isfinite(scale):
        raise ConfigError(
            f"{name}: scale is {scale!r}", hint="a finite number, usually 1/√D for heads of width D"
        )
    if window is not None and (not isinstance(window, Integral) or int(window) < 1):
        raise ConfigError(
            f"{name}: window is {window!r}",
            hint="how many keys a query sees, itself included: 1 or more, or None for all",
        )
    if not isinstance(dropout, Real) or not 0 <= float(dropout) < 1:
        raise ConfigError(
            f"{name}: dropout is {dropout!r}", hint="the share of weights to drop, in [0, 1)"
        )
    if not isinstance(key, Integral) or not 0 <= int(key) < 2**64:
        raise ConfigError(f"{name}: key is {key!r}", hint="an integer in [0, 2⁶⁴)")
