"""Training from Python: a model, an optimizer, a loss and data."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from entrenar_common.errors import ConfigError, RefusedError
from entrenar_common.progress import Progress
from entrenar_core.autograd import Parameter, Tensor, no_grad
from entrenar_core.optim import Optimizer
from entrenar_core.train.callbacks import Callback
from entrenar_core.train.checkpoint import CheckpointStore
from entrenar_core.train.config import TrainingConfig
from entrenar_core.train.loop import PhaseResult, TrainingLoop
from entrenar_core.train.metrics import MetricsLog
from entrenar_core.train.objective import Objective, Supervised
from entrenar_core.train.process import StopRequest
from entrenar_core.train.rows import Rows

__all__ = ["Trainer"]

_PHASE, _RUN_ID = "training", "trainer"


class HeldOut(Protocol):
    """Rows to evaluate on, such as `Batches` and `ArrayBatches`."""

    rows: int
    batch_size: int

    def gather(self, row_ids: Any) -> Any:
        """A batch of the rows of these numbers."""
        ...


class Trainer:
    """Trains `model` with `optimizer`, which has its parameters, to make `loss` small.

    `loss` is a function of what the model makes of a batch's inputs and of what was wanted, the
    mean over rows, for data that are `ArrayBatches`; or an `Objective`, such as
    `LanguageModelling`, for data of its kind. `config` is everything else: length, learning rate,
    accumulation, clipping, evaluation, early stopping, averaging of weights; `mixed_precision` is
    its setting of that name. `folder` gets the log
    (`metrics.jsonl`) and, every `checkpoint_every` steps and at the end, a checkpoint
    (`checkpoints/`); without it nothing is written.

    >>> from entrenar_core.data.array_batches import ArrayBatches
    >>> from entrenar_core.autograd import ops
    >>> from entrenar_core.nn import Linear
    >>> from entrenar_core.nn.init import initialise
    >>> from entrenar_core.optim import SGD
    >>> x = np.linspace(-1, 1, 64, dtype=np.float32)[:, None]
    >>> line = Linear(1, 1, bias=True, dtype="float32")
    >>> initialise(line, 0, std=1.0)
    >>> config = TrainingConfig(epochs=50, learning_rate=0.3, schedule="constant")
    >>> trainer = Trainer(line, SGD(line.named_parameters()), ops.mse, config=config)
    >>> _ = trainer.fit(ArrayBatches(x, 2 * x + 1, batch_size=16))
    >>> round(line.weight.data.item(), 3), round(line.bias.data.item(), 3)
    (2.0, 1.0)
    """

    def __init__(
        self,
        model: Any,
        optimizer: Optimizer,
        loss: Objective | Callable[[Tensor, Any], Tensor],
        *,
        config: TrainingConfig | None = None,
        mixed_precision: str | None = None,
        callbacks: Sequence[Callback] = (),
        folder: str | Path | None = None,
        checkpoint_every: int = 500,
        keep_checkpoints: int = 2,
    ):
        self.model, self.optimizer = model, optimizer
        self.objective: Any = Supervised(model, loss) if callable(loss) else loss
        self.config = config or TrainingConfig.model_validate({})
        if mixed_precision is not None:
            settings = self.config.model_dump() | {"mixed_precision": mixed_precision}
            self.config = type(self.config).model_validate(settings)
        self.callbacks = tuple(callbacks)
        self.folder = None if folder is None else Path(folder)
        self.checkpoint_every, self.keep_checkpoints = checkpoint_every, keep_checkpoints
        if self.config.quantization is not None:
            raise ConfigError(
                "an optimizer that was made before cannot train scales of quantization",
                hint="use TrainingLoop, which makes one, or a configuration file",
            )
        if self.config.early_stopping is not None and folder is None:
            raise ConfigError(
                "early_stopping goes back to the best weights, and nothing is saved",
                hint="give a folder for checkpoints",
            )

    def fit(
        self,
        train: Rows,
        val: HeldOut | None = None,
        *,
        resume: bool = False,
        progress: Progress | None = None,
        stop: StopRequest | None = None,
    ) -> PhaseResult:
        """Train on `train`; measure the loss on `val` every `config.evaluate_every` steps.

        `resume`: go on from the newest checkpoint in the folder, if there is one. Raises
        RefusedError where there is one and it is not to be gone on from, CheckpointError where
        another process uses the folder or the settings are others now, InterruptedRun, after
        saving, when `stop` is set meanwhile; what `TrainingLoop` raises.
        """
        with self._own_store(resume) as store:
            loop = TrainingLoop(
                self.model,
                self.objective,
                train,
                self.config,
                phase=_PHASE,
                metrics=None if self.folder is None else MetricsLog(self.folder / "metrics.jsonl"),
                store=store,
                checkpoint_every=self.checkpoint_every,
                evaluate=None if val is None else lambda: self.loss_on(val),
                optimizer=self._given,
                callbacks=self.callbacks,
            )
            if resume:
                loop.resume()
            return loop.fit(progress=progress, stop=stop)

    def loss_on(self, data: HeldOut) -> float:
        """The mean loss over all rows of `data`."""
        total, targets = 0.0, 0
        with no_grad():
            for start in range(0, data.rows, data.batch_size):
                rows = np.arange(start, min(start + data.batch_size, data.rows))
                batch = data.gather(rows)
                self.objective.begin(0, [batch])
                total += self.objective.loss(batch, 1).item()
                targets += batch.targets
        self.objective.parts()  # of these no log is kept
        return total / targets if targets else math.nan

    @contextmanager
    def _own_store(self, resume: bool) -> Iterator[CheckpointStore | None]:
        """The checkpoints, to which no other process writes meanwhile; None without a folder."""
        if self.folder is None:
            yield None
            return
        store = CheckpointStore(
            self.folder / "checkpoints", run_id=_RUN_ID, keep_last=self.keep_checkpoints
        )
        with store.lock():
            store.collect_garbage()
            if not resume and store.latest() is not None:
                # its later steps would be taken for the newest ones of the training that starts
                raise RefusedError(
                    f"{self.folder}: already holds a training",
                    hint="go on with it by resume=True, or give another folder",
                )
            yield store

    def _given(self, parameters: Mapping[str, Parameter]) -> Optimizer:
        known = self.optimizer.parameter_names()
        strange = [name for name, p in parameters.items() if id(p) not in known]
        if strange:
            raise ConfigError(
                f"the optimizer has not been given {strange[0]}, which is trained",
                hint="make it of model.named_parameters(), or freeze what it is not to have",
            )
        return self.optimizer
