"""Loading the compiled kernels of a step before the step's memory is there."""

from typing import Any

from entrenar_core.optim import Optimizer
from entrenar_core.train.objective import Objective

TOKENS = 64
"""Of one row: enough for every kind of kernel that a step calls."""


def load_kernels(objective: Objective, batch: Any, optimizer: Optimizer) -> None:
    """Compute gradients of the beginning of `batch`, and forget them and the loss. `optimizer` has
    the memory that they are written to.

    A kernel is loaded when it is first called, and what the compiler needs for that stays where it
    was allocated. In the middle of a step this is between arrays, or in the place of one that was
    freed; the largest array of the next step does not fit there again, and the process grows by
    it: 0.3 of 1.6 GB for a model with 150,000 tokens.
    """
    beginning = batch.part(slice(1), slice(TOKENS))
    objective.begin(0, [beginning])
    loss = objective.loss(beginning, max(1, beginning.targets))
    if loss.requires_grad:
        loss.backward()
    objective.parts()
    optimizer.zero_grad()
