"""MLflow, through its own package, which is imported where it is asked for."""

import importlib
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from entrenar_common.errors import UnsupportedError
from entrenar_core.train.callbacks import Callback, Outcome, Run
from entrenar_core.train.exporters.background import BackgroundQueue
from entrenar_core.train.exporters.figures import figures, flat

__all__ = ["MLflow"]

_METRICS, _PARAMS = 1000, 100  # most of a request
_LONGEST_PARAM = 500  # characters, what servers of all versions take
_STATUS = {"finished": "FINISHED", "stopped": "FINISHED", "interrupted": "KILLED"}


class MLflow(Callback):
    """Logs the figures of every step to a run of MLflow for each phase, settings as parameters.

    tracking_uri: the server, or a store on this machine, as MLflow has them
    experiment:   where the runs belong; made where it is missing
    warn:         told when figures were lost, see `BackgroundQueue`

    Everything is sent by a thread, and an end of training waits for 2 seconds of it. A training
    that goes on is another run, which begins at its step.

    Raises UnsupportedError where neither `mlflow` nor `mlflow-skinny` is installed.
    """

    def __init__(self, tracking_uri: str, *, experiment: str, warn: Callable[[str], None]):
        try:
            self._tracking: Any = importlib.import_module("mlflow.tracking")
            self._entities: Any = importlib.import_module("mlflow.entities")
        except ImportError:
            raise UnsupportedError(
                "MLflow needs the package mlflow-skinny, which is not installed",
                hint="pip install mlflow-skinny",
            ) from None
        self.tracking_uri, self.experiment, self.warn = tracking_uri, experiment, warn
        self._queue: BackgroundQueue[Any] | None = None

    def started(self, run: Run) -> None:
        session = _Session(self, run)
        self._queue = BackgroundQueue(session.deliver, name="MLflow", warn=self.warn)

    def step(self, record: Mapping[str, Any]) -> None:
        assert self._queue is not None
        self._queue.put((record["step"], time.time_ns() // 10**6, figures(record)))

    def ended(self, outcome: Outcome) -> None:
        assert self._queue is not None
        self._queue.put(outcome)
        self._queue.close()

    def begin(self, run: Run) -> tuple[Any, str]:
        """A client and the id of a run for a phase. Only the queue's thread calls it: it asks the
        network."""
        client = self._tracking.MlflowClient(tracking_uri=self.tracking_uri)
        found = client.get_experiment_by_name(self.experiment)
        experiment = found.experiment_id if found else client.create_experiment(self.experiment)
        begun = client.create_run(experiment, run_name=run.phase).info.run_id
        params = [
            self._entities.Param(_key(name), str(value)[:_LONGEST_PARAM])
            for name, value in flat({"first_step": run.first_step, **run.settings})
        ]
        for part in _parts(params, _PARAMS):
            client.log_batch(begun, params=part)
        return client, begun

    def metrics(self, items: Sequence[Any]) -> list[Any]:
        """What steps say, as MLflow has it."""
        return [
            self._entities.Metric(_key(name), value, milliseconds, step)
            for step, milliseconds, values in items
            for name, value in values.items()
        ]


class _Session:
    """A phase, as the thread sees it."""

    def __init__(self, owner: MLflow, run: Run):
        self._owner, self._phase = owner, run
        self._begun: tuple[Any, str] | None = None

    def deliver(self, items: list[Any]) -> None:
        if self._begun is None:
            self._begun = self._owner.begin(self._phase)
        client, run = self._begun
        steps = [item for item in items if isinstance(item, tuple)]
        for part in _parts(self._owner.metrics(steps), _METRICS):
            client.log_batch(run, metrics=part)
        for outcome in items[len(steps) :]:  # comes last
            client.set_terminated(run, status=_STATUS.get(outcome, "FAILED"))


def _parts(values: Sequence[Any], most: int) -> Iterator[Sequence[Any]]:
    for start in range(0, len(values), most):
        yield values[start : start + most]


def _key(name: str) -> str:
    """A name that MLflow takes: letters, digits, and _ - . / and spaces."""
    return re.sub(r"[^\w\-./ ]", "_", name, flags=re.ASCII)
