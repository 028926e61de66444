"""The steps of a distillation as its study is told of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from entrenar_bench.study.steps import Step
from entrenar_core.train.callbacks import Callback, Run
from entrenar_distill.task import STUDENT

__all__ = ["Told", "metrics_of"]


class Told(Callback):
    """Passes each step on to `tell`; those of other models than the student without metrics."""

    def __init__(self, tell: Callable[[Step], None]) -> None:
        self._tell = tell
        self._total: int | None = None

    def started(self, run: Run) -> None:
        self._total = run.total_steps

    def step(self, record: Mapping[str, Any]) -> None:
        phase = record["phase"]
        metrics = metrics_of(record) if phase == STUDENT else {}
        self._tell(Step(record["step"], self._total, metrics, phase))


def metrics_of(record: Mapping[str, Any]) -> dict[str, float]:
    """What a study keeps of a line of the log: the loss, NaN where it was not finite. That is the
    cross-entropy where the line has it, which arms with other objectives have in common."""
    loss = record.get("cross_entropy", record["loss"])
    return {"loss": math.nan if loss is None else loss}
