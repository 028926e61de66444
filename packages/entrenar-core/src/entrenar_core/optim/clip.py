"""Clipping of gradients outside of an optimizer."""

import math
from collections.abc import Iterable

from entrenar_core import kernels
from entrenar_core.autograd import Parameter
from entrenar_core.optim.base import clip_factor


def clip_grad_norm(parameters: Iterable[Parameter], max_norm: float) -> float:
    """Scale the gradients of `parameters` down, in place, to a global norm of `max_norm`.

    Returns the norm before. If it is not finite the gradients stay as they are, and an optimizer's
    step will skip them. `Optimizer.step(max_norm=…)` does the same without a pass over memory.
    """
    gradients = [p.grad for p in parameters if p.grad is not None]
    norm = math.sqrt(sum(kernels.sum_of_squares(g.reshape(-1)) for g in gradients))
    factor = clip_factor(norm, max_norm)
    if math.isfinite(norm) and factor < 1.0:
        for gradient in gradients:
            kernels.multiply(gradient, factor)
    return norm


def clip_grad_value(parameters: Iterable[Parameter], max_value: float) -> None:
    """Clip every element of the gradients of `parameters` to [−max_value, max_value], in place."""
    for parameter in parameters:
        if parameter.grad is not None:
            kernels.limit(parameter.grad, max_value)
