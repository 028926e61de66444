"""What evaluations say about a training: which was the best, and whether to go on."""

import math
from collections.abc import Callable, Mapping
from typing import Any

from entrenar_common.errors import ConfigError
from entrenar_core.train.config import TrainingConfig
from entrenar_core.train.patience import Patience

__all__ = ["HELD_OUT_LOSS", "Evaluate", "Judge"]

HELD_OUT_LOSS = "held_out_loss"

Evaluate = Callable[[], float | Mapping[str, float]]
"""What is measured on what was held out: its loss, or figures by name, `held_out_loss` among
them."""


class Judge:
    """Compares evaluations by `config.metric`.

    held_out: the last loss of what was held out; None before the first
    cost:     what checkpoints are compared by: the last metric, turned so that less is better.
              None where a training that stops early has had a better one, to which it goes back
    """

    def __init__(self, config: TrainingConfig):
        self.held_out: float | None = None
        self.cost: float | None = None
        self._name = config.metric
        self._patience = Patience(config.metric_goal, config.early_stopping)
        self._stops = config.early_stopping is not None

    def measure(self, evaluate: Evaluate) -> tuple[Mapping[str, float], bool]:
        """The figures of an evaluation, and whether a training that stops early has to keep what it
        found: the best so far. Raises ConfigError where the metric is not among them."""
        measured = evaluate()
        figures = measured if isinstance(measured, Mapping) else {HELD_OUT_LOSS: measured}
        self.held_out = figures[HELD_OUT_LOSS]
        if self._name not in figures:
            raise ConfigError(
                f"training.metric {self._name!r} is not among the figures of an evaluation",
                hint=f"they are {', '.join(figures)}",
            )
        cost = self._patience.cost(figures[self._name])
        better = self._patience.take(figures[self._name])
        # with patience the best is what it counts from: not one that is better by less
        self.cost = cost if better or not self._stops else None
        return figures, better and self._stops

    def gives_up(self) -> str:
        """Why there is no more patience, empty where there is."""
        if not self._patience.exhausted:
            return ""
        best = "any at all" if self._patience.best is None else f"{self._patience.best:.6g}"
        return f"{self._patience.since} evaluations without a better {self._name} than {best}"

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps: JSON, which has no NaN; such a loss is the worst anyway."""
        return {"held_out_loss": finite(self.held_out), "patience": self._patience.state()}

    def restore(self, state: Mapping[str, Any], cost: float | None) -> None:
        """Go on from `state` and the metric that was saved beside it."""
        self.held_out, self.cost = state["held_out_loss"], cost
        self._patience.restore(state.get("patience"))


def finite(value: float | None) -> float | None:
    """`value`, or None where it is no number that JSON has."""
    return value if value is not None and math.isfinite(value) else None
