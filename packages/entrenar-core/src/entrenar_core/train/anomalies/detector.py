"""The callback that notices what goes wrong in a training."""

import time
from collections.abc import Mapping
from typing import Any

from entrenar_core.train.anomalies.figures import StepFigures, private_bytes
from entrenar_core.train.anomalies.section import AnomaliesSection
from entrenar_core.train.anomalies.watcher import Watcher
from entrenar_core.train.callbacks import Callback, Run
from entrenar_core.train.trace import Span

__all__ = ["AnomalyDetector"]

_PAUSES = {"evaluation", "checkpoint"}


class AnomalyDetector(Callback):
    """Tells every callback of what a `Watcher` finds in the steps of a training, as they are done.

    Each phase, and each part of one that was resumed, is judged by its own steps.
    """

    def __init__(self, settings: AnomaliesSection | None = None):
        self._settings = settings

    def started(self, run: Run) -> None:
        self._notify = run.notify
        self.watcher = Watcher(self._settings, seed=run.settings.get("seed", 0))
        self._data, self._cpu, self._memory = 0.0, 0.0, 0
        self._paused = self._disturbed = False

    def span(self, span: Span) -> None:
        if span.name == "data":
            self._data, self._cpu = span.seconds, time.thread_time()
        elif span.name == "step":
            self._memory, self._cpu = private_bytes(), time.thread_time() - self._cpu
            # now, since an evaluation of this step comes before its line of the log
            self._disturbed, self._paused = self._paused, False
        elif span.name in _PAUSES:
            self._paused = True

    def step(self, record: Mapping[str, Any]) -> None:
        figures = StepFigures(
            step=record["step"],
            step_seconds=record["seconds"],
            data_seconds=self._data,
            cpu_seconds=self._cpu,
            loss=record["loss"],
            gradient_norm=record["grad_norm"],
            private_bytes=self._memory,
            disturbed=self._disturbed,
        )
        for finding in self.watcher.take(figures):
            self._notify(finding.notice())
