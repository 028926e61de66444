"""The gradient of an objective for some micro-batches, and how far two gradients are apart."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from entrenar_core.autograd import Parameter, Tensor
from entrenar_core.data.batches import Batch
from entrenar_core.train.objective import Objective

FLOOR = 1e-3
"""Tensors whose gradient is smaller than this share of the largest are compared with that: in some,
such as the biases of keys, it is nothing but rounding."""


@dataclass(frozen=True)
class Step:
    """What an optimizer step would see: the loss, and the gradient of each trained parameter."""

    loss: float
    gradients: Mapping[str, np.ndarray]


def trained(student: Any, objective: Objective) -> dict[str, Parameter]:
    """What an optimizer would change: of the student, and besides it."""
    own = {n: p for n, p in student.named_parameters().items() if p.requires_grad}
    return own | {f"objective.{n}": p for n, p in objective.parameters().items()}


def step_of(
    objective: Objective,
    parameters: Mapping[str, Tensor],
    batches: Sequence[Batch],
    *,
    step: int,
) -> Step:
    """Loss and gradients of one optimizer step over `batches`, added up as in training."""
    for parameter in parameters.values():
        parameter.grad = None
    normalizer = max(1, sum(batch.targets for batch in batches))
    objective.begin(step, batches)
    total = 0.0
    for batch in batches:
        loss = objective.loss(batch, normalizer)
        loss.backward()
        total += loss.item()
    objective.parts()  # what it has gathered for a log
    gradients = {
        name: np.zeros(p.shape, p.dtype) if p.grad is None else np.array(p.grad)
        for name, p in parameters.items()
    }
    return Step(total, gradients)


def loss_of(objective: Objective, batch: Batch, *, step: int) -> float:
    """The loss of a step of one micro-batch."""
    objective.begin(step, [batch])
    value = objective.loss(batch, max(1, batch.targets)).item()
    objective.parts()
    return value


def apart(found: Step, wanted: Step) -> float:
    """The largest relative difference of loss and gradients; infinite where one is not finite."""
    size = max(_largest(gradient) for gradient in wanted.gradients.values())
    errors = [abs(found.loss - wanted.loss) / max(abs(wanted.loss), 1e-9)]
    for name, gradient in wanted.gradients.items():
        scale = max(_largest(gradient), FLOOR * size, 1e-30)
        errors.append(_largest(found.gradients[name] - gradient) / scale)
    worst = max(errors) if np.isfinite(errors).all() else np.inf
    return float(worst)


def _largest(values: np.ndarray) -> float:
    return float(np.abs(values).max(initial=0.0))
