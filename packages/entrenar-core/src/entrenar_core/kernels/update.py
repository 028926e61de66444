"""Updates of flat parameter buffers, in place."""

from entrenar_core.kernels.registry import array_module, kernel


@kernel
def accumulate(target, source):
    """target += source, for contiguous arrays of one shape. Returns target."""
    target += source
    return target


@kernel
def multiply(target, factor):
    """target *= factor, a number. Returns target."""
    target *= target.dtype.type(factor)
    return target


@kernel
def limit(target, bound):
    """target ← min(max(target, −bound), bound), element by element; NaN stays. Returns target."""
    xp = array_module(target)
    kind = target.dtype.type
    return xp.clip(target, kind(-bound), kind(bound), out=target)


@kernel
def sum_of_squares(x):
    """Σ x² of a flat array as a Python float, accumulated in float64 over blocks."""
    return float((x.astype("float64") ** 2).sum())


@kernel
def adam(p, g, m, v, *, lr, beta1, beta2, eps, weight_decay, step, scale, peak=None):
    """One Adam step on flat arrays (n,), in place; g is multiplied by `scale` first.

    g ← g + λp, m ← β₁m + (1−β₁)g, v ← β₂v + (1−β₂)g²,
    p ← p − lr · (m/(1−β₁ᵗ)) / (√(v/(1−β₂ᵗ)) + ε) with t = `step` ≥ 1.
    With `peak` (AMSGrad) peak ← max(peak, v) stands for v in the last line.
    Sources: Kingma and Ba 2015, arXiv:1412.6980; Reddi et al. 2018, arXiv:1904.09237, with
    PyTorch's place for ε and its maximum of what is not yet corrected.
    """
    kind = p.dtype.type
    g = g * kind(scale) + kind(weight_decay) * p
    return _adam_step(p, g, m, v, lr, beta1, beta2, eps, step, peak)


@kernel
def adamw(p, g, m, v, *, lr, beta1, beta2, eps, weight_decay, step, scale, peak=None):
    """One AdamW step on flat arrays (n,), in place; g is multiplied by `scale` first.

    p ← p·(1 − lr·λ), then what `adam` does with λ = 0.
    Source: Loshchilov and Hutter 2019, arXiv:1711.05101, with PyTorch's place for ε.
    """
    kind = p.dtype.type
    p *= kind(1 - lr * weight_decay)
    return _adam_step(p, g * kind(scale), m, v, lr, beta1, beta2, eps, step, peak)


def _adam_step(p, g, m, v, lr, beta1, beta2, eps, step, peak):
    xp = array_module(p)
    kind = p.dtype.type
    m *= kind(beta1)
    m += kind(1 - beta1) * g
    v *= kind(beta2)
    v += kind(1 - beta2) * g * g
    if peak is not None:
        v = xp.maximum(peak, v, out=peak)
    p -= kind(lr / (1 - beta1**step)) * m / (xp.sqrt(v * kind(1 / (1 - beta2**step))) + kind(eps))
    return p
