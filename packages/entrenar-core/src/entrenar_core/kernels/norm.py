"""Normalisations over the last axis of x (N, D).

The `_grad` kernels write dx to `out` if it is given, on top of its contents if `add`.
"""

from entrenar_core.kernels.registry import array_module, kernel


@kernel
def rms_norm(x, weight, *, eps):
    """y = weight · x / r with r = √(mean(x²) + eps) over the last axis.

    x (N, D), weight (D,) → y (N, D), 1/r (N,).
    Source: Zhang and Sennrich 2019, arXiv:1910.07467.
    """
    xp = array_module(x)
    rstd = 1 / xp.sqrt(_mean(x * x) + x.dtype.type(eps))
    return x * rstd * weight, rstd[:, 0]


@kernel
def rms_norm_grad(g, x, weight, rstd, *, out=None, add=False):
    """The gradients of `rms_norm` for the output gradient g (N, D): dx (N, D), dweight (D,).

    dx = rstd·(g·weight − x̂·mean(g·weight·x̂)) with x̂ = x·rstd.
    """
    normed = x * rstd[:, None]
    scaled = g * weight
    dx = (scaled - normed * _mean(scaled * normed)) * rstd[:, None]
    return _put(out, dx, add), (g * normed).sum(axis=0)


@kernel
def layer_norm(x, weight, bias, *, eps):
    """y = weight · (x − μ)/σ + bias with μ = mean(x) and σ = √(mean((x − μ)²) + eps).

    x (N, D), weight and bias (D,) or None → y (N, D), μ (N,), 1/σ (N,).
    Source: Ba, Kiros and Hinton 2016, arXiv:1607.06450.
    """
    xp = array_module(x)
    mean = _mean(x)
    centred = x - mean
    rstd = 1 / xp.sqrt(_mean(centred * centred) + x.dtype.type(eps))
    y = centred * rstd
    if weight is not None:
        y *= weight
    if bias is not None:
        y += bias
    return y, mean[:, 0], rstd[:, 0]


@kernel
def layer_norm_grad(g, x, weight, mean, rstd, *, out=None, add=False):
    """The gradients of `layer_norm` for the output gradient g (N, D): dx, dweight, dbias.

    With x̂ = (x − μ)/σ and h = g·weight: dx = (h − mean(h) − x̂·mean(h·x̂))/σ, dweight = Σ g·x̂,
    dbias = Σ g, the sums over rows.
    """
    normed = (x - mean[:, None]) * rstd[:, None]
    scaled = g if weight is None else g * weight
    dx = (scaled - _mean(scaled) - normed * _mean(scaled * normed)) * rstd[:, None]
    return _put(out, dx, add), (g * normed).sum(axis=0), g.sum(axis=0)


def _mean(x):
    """The mean of each row (N, 1); 0 for rows of no elements."""
    return x.sum(axis=-1, keepdims=True) / x.dtype.type(max(1, x.shape[-1]))


def _put(out, dx, add):
    if out is None:
        return dx
    if add:
        out += dx
    else:
        out[...] = dx
    return out
