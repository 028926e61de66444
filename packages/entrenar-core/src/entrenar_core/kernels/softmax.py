"""Softmax and its logarithm over the last axis of x (N, D)."""

from entrenar_core.kernels.registry import array_module, kernel


@kernel
def softmax(x):
    """y = eˣ / Σ eˣ in each row."""
    xp = array_module(x)
    y = xp.exp(_shifted(xp, x))
    y /= y.sum(axis=-1, keepdims=True)
    return y


@kernel
def softmax_grad(g, y):
    """The gradient of `softmax`: y·(g − Σ g·y)."""
    return y * (g - (g * y).sum(axis=-1, keepdims=True))


@kernel
def log_softmax(x):
    """y = x − log Σ eˣ in each row."""
    xp = array_module(x)
    y = _shifted(xp, x)
    if y.size:  # the sum of a row of no elements has no logarithm
        y -= xp.log(xp.exp(y).sum(axis=-1, keepdims=True))
    return y


@kernel
def log_softmax_grad(g, y):
    """The gradient of `log_softmax`: g − e^y·Σ g."""
    return g - array_module(y).exp(y) * g.sum(axis=-1, keepdims=True)


def _shifted(xp, x):
    """x less the largest of its row, so that nothing overflows."""
    return x - x.max(axis=-1, keepdims=True, initial=-xp.inf)
