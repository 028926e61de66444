"""Updates of flat parameter buffers, in place."""

from entrenar_core.kernels.registry import array_module, kernel


@kernel
def accumulate(target, source):
    """target += source, for contiguous arrays of one shape. Returns target."""
    target += source
    return target


@kernel
def sum_of_squares(x):
    """Σ x² of a flat array as a Python float, accumulated in float64 over blocks."""
    return float((x.astype("float64") ** 2).sum())


@kernel
def adamw(p, g, m, v, *, lr, beta1, beta2, eps, weight_decay, step, scale):
    """One AdamW step on flat arrays (n,), in place; g is multiplied by `scale` first.

    m ← β₁m + (1−β₁)g, v ← β₂v + (1−β₂)g²,
    p ← p·(1 − lr·λ) − lr · (m/(1−β₁ᵗ)) / (√(v/(1−β₂ᵗ)) + ε) with t = `step` ≥ 1.
    Source: Loshchilov and Hutter 2019, arXiv:1711.05101, with PyTorch's place for ε.
    """
    xp = array_module(p)
    kind = p.dtype.type
    g = g * kind(scale)
    m *= kind(beta1)
    m += kind(1 - beta1) * g
    v *= kind(beta2)
    v += kind(1 - beta2) * g * g
    p *= kind(1 - lr * weight_decay)
    p -= kind(lr / (1 - beta1**step)) * m / (xp.sqrt(v * kind(1 / (1 - beta2**step))) + kind(eps))
    return p
