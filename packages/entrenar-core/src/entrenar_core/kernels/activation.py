"""Gated activations: Shazeer 2020, arXiv:2002.05202."""

from entrenar_core.kernels.registry import array_module, kernel


@kernel
def swiglu(gate, up):
    """silu(gate) · up with silu(x) = x·σ(x), elementwise. Both (N, F) → (N, F)."""
    xp = array_module(gate)
    return gate * _sigmoid(xp, gate) * up


def _sigmoid(xp, x):
    return 1 / (1 + xp.exp(-xp.maximum(x, -80)))  # exp(80) is far from overflow in float32


@kernel
def swiglu_grad(g, gate, up):
    """The gradients of `swiglu` and its value again: dgate, dup, y, each (N, F).

    silu'(x) = σ(x)·(1 + x·(1 − σ(x))). The value comes with the gradients so that a caller that
    needs it backwards does not have to keep it.
    """
    xp = array_module(g)
    sigmoid = _sigmoid(xp, gate)
    silu = gate * sigmoid
    return g * up * (sigmoid + silu * (1 - sigmoid)), g * silu, silu * up
