"""Activation checkpointing: compute again backwards instead of keeping."""

from collections.abc import Callable
from contextvars import copy_context
from typing import Any

import numpy as np

from entrenar_core.autograd.op import record
from entrenar_core.autograd.tape import joint
from entrenar_core.autograd.tensor import Tensor


def checkpoint(function: Callable[..., Tensor], *inputs: Any) -> Tensor:
    """function(*inputs), of which only the inputs and the result are kept.

    backward() calls `function` a second time, so the activations of one call at a time exist. Its
    value has to depend on the inputs and on parameters alone; dropout inside gives the same again.
    Parameters that `function` uses get their gradients as they would without.
    Source: Chen et al. 2016, arXiv:1604.06174.

    >>> x = Tensor([2.0], requires_grad=True)
    >>> checkpoint(lambda x: x * x * x, x).sum().backward()
    >>> x.grad
    array([12.], dtype=float32)
    """
    context = copy_context()  # what the second call has to find: dropout's place, no_grad
    y = function(*inputs)
    if not y.requires_grad:
        return y
    needs = tuple(isinstance(x, Tensor) and x.requires_grad for x in inputs)

    def pull(g: Any) -> tuple[Any, ...]:
        again = tuple(
            Tensor(x.data, requires_grad=True) if needed else x
            for x, needed in zip(inputs, needs, strict=True)
        )
        context.run(function, *again).backward(g)
        gradients = [
            (np.zeros_like(x.data) if x.grad is None else x.grad) if needed else None
            for x, needed in zip(again, needs, strict=True)
        ]
        return np.zeros(()), *gradients

    # The node has to be walked even if only parameters inside need gradients, so it is given
    # one input that always does.
    anchor = Tensor(np.zeros(()), requires_grad=True)
    out = Tensor(y.data, requires_grad=True)
    vjps = (joint(pull, 1 + len(inputs)),)
    out.node = record("checkpoint", vjps, (anchor, *inputs), (True, *needs))
    return out
