"""When to stop because a training gets no better: the section of a config, and the count."""

import math
from typing import Any, Literal

from pydantic import Field

from entrenar_core.train.strict import StrictModel

__all__ = ["EarlyStopping", "Goal", "Patience"]

Goal = Literal["lowest", "highest"]


class EarlyStopping(StrictModel):
    """A training that ends when its evaluations have not got better for a while; it is left with
    the weights of the best one."""

    patience: int = Field(
        3, ge=1, description="evaluations without a gain after which training stops"
    )
    min_delta: float = Field(
        0.0, ge=0, description="how much better than the best an evaluation has to be"
    )


class Patience:
    """Which evaluation was the best, and how many came after it.

    best:  the best value so far; None before the first. What is not finite is the worst there is.
    since: evaluations after it that were no better by `min_delta`
    """

    def __init__(self, goal: Goal, stopping: EarlyStopping | None):
        self.best: float | None = None
        self.since = 0
        self._sign = 1.0 if goal == "lowest" else -1.0
        self._stopping = stopping

    def cost(self, value: float) -> float:
        """`value` as what the best one has least of."""
        return self._sign * value if math.isfinite(value) else math.inf

    def take(self, value: float) -> bool:
        """Count an evaluation; whether it is the best so far."""
        delta = self._stopping.min_delta if self._stopping else 0.0
        best = math.inf if self.best is None else self.cost(self.best)
        better = self.cost(value) < best - (0.0 if self.best is None else delta)
        if better:
            self.best, self.since = value, 0
        else:
            self.since += 1
        return better

    @property
    def exhausted(self) -> bool:
        """Whether it is time to stop."""
        return self._stopping is not None and self.since >= self._stopping.patience

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps: JSON."""
        return {"best": self.best, "since": self.since}

    def restore(self, state: dict[str, Any] | None) -> None:
        """Go on from `state`; None is what a checkpoint of an older version has."""
        if state is not None:
            self.best, self.since = state["best"], state["since"]
