"""Root mean square normalisation: Zhang and Sennrich 2019, arXiv:1910.07467."""

from entrenar_core.kernels.registry import array_module, kernel


@kernel
def rms_norm(x, weight, *, eps):
    """y = weight · x / r with r = √(mean(x²) + eps) over the last axis.

    x (N, D), weight (D,) → y (N, D), 1/r (N,).
    """
    xp = array_module(x)
    rstd = 1 / xp.sqrt((x * x).mean(axis=-1) + x.dtype.type(eps))
    return x * rstd[:, None] * weight, rstd


@kernel
def rms_norm_grad(g, x, weight, rstd, *, out=None, add=False):
    """The gradients of `rms_norm` for the output gradient g (N, D): dx (N, D), dweight (D,).

    dx = rstd·(g·weight − x̂·mean(g·weight·x̂)) with x̂ = x·rstd. `out` receives dx, on top of its
    contents if `add`.
    """
    xp = array_module(g)
    normed = x * rstd[:, None]
    scaled = g * weight
    dx = (scaled - normed * (scaled * normed).mean(axis=-1, keepdims=True)) * rstd[:, None]
    dweight = (g * normed).sum(axis=0)
    if out is None:
        return dx, dweight
    if add:
        out += dx
    else:
        xp.copyto(out, dx)
    return out, dweight
