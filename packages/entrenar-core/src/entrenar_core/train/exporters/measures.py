"""The figures of a training that collectors and endpoints are told of, by name and unit."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["GAUGES", "RESIDENT", "TOTALS", "Figure", "Figures", "finite"]


@dataclass(frozen=True)
class Figure:
    """name:  after `entrenar.training.`
    key:   of a step's line of the log
    unit:  in UCUM, the code of units that OpenTelemetry uses
    """

    name: str
    key: str
    unit: str
    description: str

    @property
    def full_name(self) -> str:
        return f"entrenar.training.{self.name}"


RESIDENT = Figure("resident_memory", "", "By", "What the process holds in memory now.")
GAUGES = (
    Figure("loss", "loss", "1", "Mean loss per target of the last step."),
    Figure("held_out_loss", "held_out_loss", "1", "Loss of the last evaluation."),
    Figure("learning_rate", "learning_rate", "1", "Learning rate of the last step."),
    Figure("gradient_norm", "grad_norm", "1", "Norm of the last gradient, before clipping."),
    Figure("tokens_per_second", "tokens_per_second", "{token}/s", "Speed of the last step."),
    Figure("step_duration", "seconds", "s", "Time that the last step took."),
    Figure("step", "step", "{step}", "Number of the last step, from 1."),
)
"""What has a value after a step, the log's."""
TOTALS = (
    Figure("tokens", "tokens", "{token}", "Tokens trained on since the process began to."),
    Figure("steps", "", "{step}", "Optimizer steps since the process began to train."),
    Figure("skipped_steps", "skipped", "{step}", "Steps lost to a loss that was not finite."),
)
"""What only grows: sums over the steps of this process."""


class Figures:
    """The figures of one phase of training, as of its last step. Threads may read `gauges` and
    `totals` while it is told of steps: neither is changed, only replaced."""

    def __init__(self) -> None:
        self.gauges: Mapping[Figure, float] = {}
        """The last value of each; those that no step had are absent."""
        self.totals: Mapping[Figure, int] = dict.fromkeys(TOTALS, 0)

    def step(self, record: Mapping[str, Any]) -> dict[Figure, float]:
        """Take over a step's line of the log; returns the gauges that it has, and their values,
        which are not finite for a step that was skipped."""
        found = {f: float(v) for f in GAUGES if isinstance(v := record.get(f.key), int | float)}
        self.gauges = {**self.gauges, **found}
        self.totals = {
            figure: total + (int(record.get(figure.key, 0)) if figure.key else 1)
            for figure, total in self.totals.items()
        }
        return found


def finite(values: Mapping[Figure, float]) -> dict[Figure, float]:
    """Those that are numbers."""
    return {figure: value for figure, value in values.items() if math.isfinite(value)}
