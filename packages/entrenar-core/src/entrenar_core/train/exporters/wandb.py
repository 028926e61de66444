"""Weights & Biases, through its own package, which is imported where it is asked for."""

import importlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from entrenar_common.errors import UnsupportedError
from entrenar_core.io import files
from entrenar_core.train.callbacks import Callback, Outcome, Run
from entrenar_core.train.exporters.background import BackgroundQueue
from entrenar_core.train.exporters.figures import figures

__all__ = ["WandB"]

_UPLOAD = 1.5  # seconds that an end waits for what is under way


class WandB(Callback):
    """Logs the figures of every step to a run of W&B for each phase, all in the group `name`.

    project: where the runs belong
    name:    of the runs, before the phase; W&B's choice when None
    offline: leave all on this machine, for `wandb sync`
    folder:  where W&B keeps its files, in `wandb/`
    warn:    told when figures were lost, see `BackgroundQueue`

    Everything is sent by a thread, and an end of training waits for 2 seconds of it. A training
    that goes on is another run of the group, which begins at its step. Nothing about the machine's
    code is sent: neither a git state nor sources nor what the terminal shows.

    Raises UnsupportedError where the package `wandb` is not installed, and StorageError, before the
    first step, when `folder` cannot be made.
    """

    def __init__(
        self,
        project: str,
        *,
        name: str | None = None,
        offline: bool = False,
        folder: str | Path,
        warn: Callable[[str], None],
    ):
        try:
            self._wandb: Any = importlib.import_module("wandb")
        except ImportError:
            raise UnsupportedError(
                "W&B needs the package wandb, which is not installed", hint="pip install wandb"
            ) from None
        self.project, self.name, self.offline = project, name, offline
        self.folder, self.warn = Path(folder), warn
        self._queue: BackgroundQueue[Any] | None = None

    def started(self, run: Run) -> None:
        files.make_folder(self.folder)
        session = _Session(self, run)
        self._queue = BackgroundQueue(session.deliver, name="W&B", warn=self.warn)

    def step(self, record: Mapping[str, Any]) -> None:
        assert self._queue is not None
        self._queue.put((record["step"], figures(record)))

    def ended(self, outcome: Outcome) -> None:
        assert self._queue is not None
        self._queue.put(outcome)
        self._queue.close()

    def begin(self, run: Run) -> Any:
        """A run of W&B for a phase. Only the queue's thread calls it: it asks the network."""
        settings = self._wandb.Settings(
            console="off", silent=True, disable_code=True, disable_git=True, finish_timeout=_UPLOAD
        )
        return self._wandb.init(
            project=self.project,
            name=self.name and f"{self.name} {run.phase}",
            group=self.name,
            job_type=run.phase,
            dir=str(self.folder),
            mode="offline" if self.offline else "online",
            config={"first_step": run.first_step, **run.settings},
            reinit="create_new",
            settings=settings,
        )


class _Session:
    """A phase, as the thread sees it."""

    def __init__(self, owner: WandB, run: Run):
        self._owner, self._phase, self._run = owner, run, None

    def deliver(self, items: list[Any]) -> None:
        if self._run is None:
            self._run = self._owner.begin(self._phase)
        for item in items:
            if isinstance(item, tuple):
                step, values = item
                self._run.log(values, step=step)
            else:
                self._run.finish(exit_code=int(item == "failed"))
