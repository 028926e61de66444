"""Activations and the gated product of Shazeer 2020, arXiv:2002.05202.

The `_grad` kernels write to `out` if it is given, which may be g itself, and the activation's value
to `value`: a caller that needs the value backwards does not have to keep it.
"""

import math

import numpy as np

from entrenar_core.kernels.registry import array_module, kernel

CUBIC = 0.044715
"""The coefficient of x³ in the approximation of GELU."""


@kernel
def sigmoid(x):
    """σ(x) = 1 / (1 + e⁻ˣ), elementwise."""
    return _sigmoid(array_module(x), x)


def _sigmoid(xp, x):
    lowest = 1 - math.log(xp.finfo(x.dtype).max)  # e to the power of its negative is finite
    return 1 / (1 + xp.exp(-xp.maximum(x, x.dtype.type(lowest))))


@kernel
def softplus(x):
    """log(1 + eˣ), elementwise."""
    xp = array_module(x)
    return xp.maximum(x, 0) + xp.log1p(xp.exp(-xp.abs(x)))


@kernel
def silu(x):
    """x·σ(x), elementwise."""
    return x * _sigmoid(array_module(x), x)


@kernel
def silu_grad(g, x):
    """The gradient of `silu`: g·σ(x)·(1 + x·(1 − σ(x)))."""
    s = _sigmoid(array_module(x), x)
    return g * s * (1 + x * (1 - s))


@kernel
def gelu(x, *, approximate):
    """x·Φ(x) with the normal distribution function Φ, elementwise.

    Φ(x) = (1 + erf(x/√2))/2, or σ(2u) with u = √(2/π)·(x + 0.044715·x³) if `approximate`, which is
    (1 + tanh u)/2. Source: Hendrycks and Gimpel 2016, arXiv:1606.08415.
    """
    return x * _normal_cdf(x, approximate)[0]


@kernel
def gelu_grad(g, x, *, approximate, out=None, value=None):
    """The gradient of `gelu`: g·(Φ(x) + x·Φ'(x)), Φ' being e^(−x²/2)/√(2π) or σ(2u)'."""
    cdf, density = _normal_cdf(x, approximate)
    _put(value, x * cdf)
    return _put(out, g * (cdf + x * density))


def _normal_cdf(x, approximate):
    """Φ(x) and Φ'(x)."""
    xp = array_module(x)
    if not approximate:
        density = xp.exp(x * x * -0.5) * x.dtype.type(1 / math.sqrt(2 * math.pi))
        return 0.5 * (1 + _erf(x * x.dtype.type(math.sqrt(0.5)))), density
    twice = x.dtype.type(2 * math.sqrt(2 / math.pi))
    squared = x * x
    cdf = _sigmoid(xp, twice * (x + CUBIC * squared * x))
    return cdf, cdf * (1 - cdf) * twice * (1 + 3 * CUBIC * squared)


def _erf(x):
    # NumPy has no erf; where the speed of this matters there is an override
    return np.vectorize(math.erf, otypes=[x.dtype])(x)


@kernel
def swiglu(gate, up):
    """silu(gate) · up, elementwise."""
    return gate * _sigmoid(array_module(gate), gate) * up


@kernel
def swiglu_grad(g, gate, up, *, out=None, value=None):
    """The gradients of `swiglu`: dgate = g·up·silu'(gate), which goes to `out`, and
    dup = g·silu(gate)."""
    s = _sigmoid(array_module(gate), gate)
    activated = gate * s
    _put(value, activated * up)
    dup = g * activated
    return _put(out, g * up * (s + activated * (1 - s))), dup


def _put(target, array):
    """`array`, written to `target` if there is one."""
    if target is None:
        return array
    target[...] = array
    return target
