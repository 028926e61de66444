"""Adafactor: the second moment of a matrix from its row and column means."""

from entrenar_core.kernels.registry import array_module, kernel


@kernel
def adafactor(
    p, g, row, column, *, lr, beta2_decay, eps1, eps2, d, weight_decay, step, scale
):  # fmt: skip
    """One Adafactor step on a matrix or stack of matrices p (…, R, C), in place.

    With g ← scale·g and r = t^τ for t = `step`, τ = `beta2_decay`: row (…, R, 1) and column
    (…, 1, C) move by r towards the means of g² over C and over R, and
    V = row·column / max(mean of row over R, ε₁). Then `_scaled_step`.
    Source: Shazeer and Stern 2018, arXiv:1804.04235, with PyTorch's ε₁ and learning rate.
    """
    kind = p.dtype.type
    share = kind(step**beta2_decay)
    g = g * kind(scale)
    squares = g * g
    row += share * (squares.mean(axis=-1, keepdims=True) - row)
    column += share * (squares.mean(axis=-2, keepdims=True) - column)
    variance = row * column / row.mean(axis=-2, keepdims=True).clip(kind(eps1))
    return _scaled_step(p, g, variance, lr, eps1, eps2, d, weight_decay, step)


@kernel
def adafactor_vector(
    p, g, v, *, lr, beta2_decay, eps1, eps2, d, weight_decay, step, scale
):  # fmt: skip
    """One Adafactor step on an array with nothing to factor, in place: v, of the shape of p, moves
    towards g² as `row` does in `adafactor`."""
    kind = p.dtype.type
    g = g * kind(scale)
    v += kind(step**beta2_decay) * (g * g - v)
    return _scaled_step(p, g, v, lr, eps1, eps2, d, weight_decay, step)


def _scaled_step(p, g, variance, lr, eps1, eps2, d, weight_decay, step):
    """With RMS(x) = √mean(x²), ρ = min(lr, 1/√t), α = max(ε₂, RMS(p))·ρ and
    U = g / max(√V, ε₁): p ← p·(1 − lr·λ) − α · U / max(1, RMS(U)/d)."""
    xp = array_module(p)
    kind = p.dtype.type
    rate = max(eps2, _rms(p)) * min(lr, step**-0.5)
    update = g / xp.sqrt(variance.clip(kind(eps1 * eps1)))
    p *= kind(1 - lr * weight_decay)
    p -= kind(rate / max(1.0, _rms(update) / d)) * update
    return p


def _rms(x):
    return float((x * x).mean(dtype="float64")) ** 0.5
