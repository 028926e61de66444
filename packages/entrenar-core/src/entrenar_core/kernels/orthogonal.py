"""Muon: momentum whose matrix is made nearly orthogonal before it is a step."""

from entrenar_core.kernels.matmul import matmul
from entrenar_core.kernels.registry import array_module, kernel


@kernel
def newton_schulz(x, *, coefficients, steps, eps):
    """About UVᵀ of the matrix x = UΣVᵀ (R, C): its singular values moved towards 1.

    X ← x / max(‖x‖, ε), then `steps` times X ← aX + (bA + cA²)X with A = XXᵀ; a matrix with more
    rows than columns is worked on transposed. The products are in the precision of x. With the
    usual coefficients the singular values end within about 0.7 to 1.2, not at 1.
    Source: Jordan 2024, "Muon: An optimizer for hidden layers in neural networks".
    """
    xp = array_module(x)
    kind = x.dtype.type
    a, b, c = (kind(value) for value in coefficients)
    tall = x.shape[0] > x.shape[1]
    norm = float((x * x).sum(dtype="float64")) ** 0.5
    y = xp.ascontiguousarray(x.T if tall else x) * kind(1 / max(norm, eps))
    for _ in range(steps):
        gram = matmul(y, y, trans_b=True)
        y = a * y + matmul(b * gram + c * matmul(gram, gram), y)
    return xp.ascontiguousarray(y.T) if tall else y


@kernel
def muon(
    p, g, buffer, *, lr, ratio, momentum, nesterov, weight_decay, coefficients, steps, eps, scale
):  # fmt: skip
    """One Muon step on a matrix p (R, C), in place; g is multiplied by `scale` first.

    b ← μb + (1−μ)g, u = μb + (1−μ)g (Nesterov) or b,
    p ← p·(1 − lr·λ) − lr · ratio · newton_schulz(u).
    """
    kind = p.dtype.type
    g = g * kind(scale)
    buffer += kind(1 - momentum) * (g - buffer)
    update = g + kind(momentum) * (buffer - g) if nesterov else buffer
    p *= kind(1 - lr * weight_decay)
    p -= kind(lr * ratio) * newton_schulz(update, coefficients=coefficients, steps=steps, eps=eps)
    return p
