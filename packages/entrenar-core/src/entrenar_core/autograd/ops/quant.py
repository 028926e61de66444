"""Rounding that lets gradients through: to integers, to integers with a scale, to any format."""

import numpy as np

from entrenar_common.errors import ConfigError, ShapeError
from entrenar_core import kernels
from entrenar_core.autograd.op import op
from entrenar_core.autograd.tape import joint


@op
def round_ste(x):
    """x rounded to the nearest integer, halves to the even one; the gradient is that of x itself.

    The straight-through estimator: Bengio et al. 2013, arXiv:1308.3432.
    """
    return np.rint(x), (lambda g: g,)


@op
def stored_ste(x, *, form):
    """x as the format `form` stores it, form.quantize(x).dequantize(); the gradient is that of x.

    For formats whose scales follow from x: nothing is out of range, but for what ggml's q4_0 and
    its relatives leave out, at most half a step at the end of a block that has not its largest
    magnitude. So nothing is clipped in the gradient either. Formats work in float32, whatever x is.
    """
    try:
        stored = form.quantize(x)
    except ShapeError as error:
        raise ShapeError(f"stored_ste: x {x.dtype} {x.shape}: {error}", hint=error.hint) from None
    return stored.dequantize().astype(x.dtype), (lambda g: g,)


@op
def fake_quantize(x, scale, zero=None, *, form, alpha=None, scale_gradient=1.0):
    """x rounded to the integers of `form` times their scales: (q − zero)·scale.

    q = clip(round(x/scale) + zero); scale and zero (S,) are in the order of `form.grain.blocks`,
    zero 0 by default and without a gradient. The rounding has no derivative of use, so the
    gradients are those of what stands in for it:

    - alpha None: the identity, within the range. ∂y/∂x = 1 inside and 0 outside; ∂y/∂scale =
      round(v) − v inside, with v = x/scale, and q − zero outside (Esser et al. 2020,
      arXiv:1902.08153).
    - alpha in (0, 1): a staircase of tanh, the steeper the smaller alpha is; see
      `kernels.soft_affine_grad` (Gong et al. 2019, arXiv:1908.05033).

    The scale's gradient is multiplied by `scale_gradient`; Esser et al. use 1/√(L·q_max) for L
    elements that share a scale.
    """
    if alpha is not None and not 0 < alpha < 1:
        raise ConfigError(f"fake_quantize: alpha is {alpha}", hint="use more than 0, less than 1")
    blocks = form.grain.blocks(x)
    zero = np.zeros_like(scale) if zero is None else np.asarray(zero, x.dtype)
    if {scale.shape, zero.shape} != {(len(blocks),)}:
        raise ShapeError(
            f"fake_quantize: scale {scale.shape} and zero {zero.shape} for x {x.shape}, which has "
            f"{len(blocks)} scales in {form.name}",
            hint="give one scale for each block of form.grain",
        )
    y = kernels.fake_affine(blocks, scale, zero, low=form.low, high=form.high)

    def pull(g):
        given = (form.grain.blocks(g), blocks, scale, zero)
        if alpha is None:
            dx, ds = kernels.fake_affine_grad(*given, low=form.low, high=form.high)
        else:
            dx, ds = kernels.soft_affine_grad(*given, low=form.low, high=form.high, alpha=alpha)
        return form.grain.restore(dx, x.shape), ds * x.dtype.type(scale_gradient)

    return form.grain.restore(y, x.shape), (joint(pull, 2), None)
