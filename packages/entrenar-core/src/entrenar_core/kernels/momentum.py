"""Optimizer steps on flat buffers that keep one running mean: SGD, Lion and RMSprop."""

from entrenar_core.kernels.registry import array_module, kernel


@kernel
def sgd(p, g, *, lr, momentum, dampening, nesterov, weight_decay, scale, buffer=None):
    """One step of stochastic gradient descent on flat arrays (n,), in place.

    g ← scale·g + λp; with a `buffer`: b ← μb + (1−τ)g with the momentum μ and the dampening τ, and
    g ← g + μb (Nesterov) or g ← b; then p ← p − lr·g. Without one the momentum has to be 0.
    Source: Sutskever et al. 2013, "On the importance of initialization and momentum in deep
    learning", as PyTorch writes it: the learning rate stays outside of the buffer.
    """
    kind = p.dtype.type
    g = g * kind(scale) + kind(weight_decay) * p
    if buffer is not None:
        buffer *= kind(momentum)
        buffer += kind(1 - dampening) * g
        g = g + kind(momentum) * buffer if nesterov else buffer
    p -= kind(lr) * g
    return p


@kernel
def lion(p, g, m, *, lr, beta1, beta2, weight_decay, scale):
    """One Lion step on flat arrays (n,), in place; g is multiplied by `scale` first.

    p ← p·(1 − lr·λ) − lr·sign(β₁m + (1−β₁)g), m ← β₂m + (1−β₂)g.
    Source: Chen et al. 2023, arXiv:2302.06675, algorithm 2.
    """
    xp = array_module(p)
    kind = p.dtype.type
    g = g * kind(scale)
    p *= kind(1 - lr * weight_decay)
    p -= kind(lr) * xp.sign(kind(beta1) * m + kind(1 - beta1) * g)
    m *= kind(beta2)
    m += kind(1 - beta2) * g
    return p


@kernel
def rmsprop(
    p, g, square, *, lr, alpha, eps, momentum, weight_decay, scale, mean=None, buffer=None
):  # fmt: skip
    """One RMSprop step on flat arrays (n,), in place.

    g ← scale·g + λp, s ← αs + (1−α)g², d = √s + ε; with `mean` (centred): a ← αa + (1−α)g and
    d = √(s − a²) + ε. Then p ← p − lr·g/d, or with a `buffer` b ← μb + g/d and p ← p − lr·b.
    Source: Tieleman and Hinton 2012, lecture 6.5; centred: Graves 2013, arXiv:1308.0850; with
    PyTorch's place for ε.
    """
    xp = array_module(p)
    kind = p.dtype.type
    g = g * kind(scale) + kind(weight_decay) * p
    square *= kind(alpha)
    square += kind(1 - alpha) * g * g
    variance = square
    if mean is not None:
        mean *= kind(alpha)
        mean += kind(1 - alpha) * g
        variance = square - mean * mean
    g = g / (xp.sqrt(variance) + kind(eps))
    if buffer is not None:
        buffer *= kind(momentum)
        buffer += g
        g = buffer
    p -= kind(lr) * g
    return p
