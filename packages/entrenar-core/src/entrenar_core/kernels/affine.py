"""Integers with a scale and a zero point: q = clip(round(x/scale) + zero), x ≈ (q − zero)·scale.

Arrays are (S, L): S scales, each for L elements. Halves are rounded to the even integer. `zero`
holds whole numbers, in the float type of x.
Source: Jacob et al. 2018, arXiv:1712.05877; the rounding is PyTorch's `fake_quantize`.
"""

import numpy as np

from entrenar_core.kernels.registry import array_module, kernel


def inverse(scale):
    """1/scale, finite for the smallest scales too."""
    xp = array_module(scale)
    with np.errstate(over="ignore", divide="ignore"):
        return xp.minimum(scale.dtype.type(1) / scale, xp.finfo(scale.dtype).max)


def _rounded(xp, x, scale, zero):
    """x/scale, and its integers before they are clipped; one that is no number for 32 bits does
    not matter any more."""
    with np.errstate(over="ignore"):
        v = x * inverse(scale)[:, None]
    return v, xp.rint(v) + zero[:, None]


@kernel
def fake_affine(x, scale, zero, *, low, high):
    """(q − zero)·scale with q between `low` and `high`: what is left of x (S, L)."""
    xp = array_module(x)
    q = xp.clip(_rounded(xp, x, scale, zero)[1], low, high)
    return (q - zero[:, None]) * scale[:, None]


@kernel
def affine_codes(x, scale, zero, *, low, high):
    """q − low as uint8 (S, L): codes from 0 on."""
    xp = array_module(x)
    return (xp.clip(_rounded(xp, x, scale, zero)[1], low, high) - low).astype("uint8")


@kernel
def affine_values(codes, scale, zero, *, low):
    """The float32 numbers (S, L) that codes of `affine_codes` stand for."""
    return (codes + (np.float32(low) - zero)[:, None]) * scale[:, None]


@kernel
def fake_affine_grad(g, x, scale, zero, *, low, high):
    """Gradients of x (S, L) and scale (S,) of `fake_affine`, straight through the rounding.

    Inside the range ∂y/∂x = 1 and ∂y/∂scale = round(v) − v with v = x/scale; outside 0 and
    q − zero. Source: Esser et al. 2020, arXiv:1902.08153, equations 3 and 5.
    """
    xp = array_module(x)
    v, q = _rounded(xp, x, scale, zero)
    inside = (q >= low) & (q <= high)
    of_scale = xp.where(inside, q - zero[:, None] - v, xp.clip(q, low, high) - zero[:, None])
    return g * inside, (g * of_scale).sum(axis=1)


@kernel
def soft_affine_grad(g, x, scale, zero, *, low, high, alpha):
    """Gradients of x (S, L) and scale (S,), of a smooth staircase in place of `fake_affine`.

    Between two neighbouring integers, whose middle is m, the staircase is φ(v) = m + s/2·tanh(k(v −
    m)) with s = 1/(1 − alpha) and k = ln(2/alpha − 1): it passes through the integers, and is the
    steeper the smaller `alpha` is. ∂y/∂x = φ′(v) and ∂y/∂scale = φ(v) − v·φ′(v); outside the range
    0 and q − zero.
    Source: Gong et al. 2019, arXiv:1908.05033, equations 3 to 8.
    """
    xp = array_module(x)
    v, q = _rounded(xp, x, scale, zero)
    inside = (q >= low) & (q <= high)
    kind = x.dtype.type
    s, k = kind(1 / (1 - alpha)), kind(np.log(2 / alpha - 1))
    middle = xp.floor(v) + kind(0.5)
    step = xp.tanh(k * (v - middle))
    slope = kind(0.5) * s * k * (1 - step * step)
    of_scale = middle + kind(0.5) * s * step - v * slope
    outside = xp.clip(q, low, high) - zero[:, None]
    return g * slope * inside, (g * xp.where(inside, of_scale, outside)).sum(axis=1)
