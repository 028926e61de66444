"""The training loop: batches in, a trained model and a log out, resumable to the bit."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from entrenar_common.errors import (
    CheckpointError,
    ConfigError,
    InterruptedRun,
    NumericsError,
)
from entrenar_common.progress import NullProgress, Progress
from entrenar_core.nn import dropout
from entrenar_core.optim import AdamW, learning_rate
from entrenar_core.train.checkpoint import Checkpoint, CheckpointStore
from entrenar_core.train.config import TrainingConfig
from entrenar_core.train.metrics import MetricsLog
from entrenar_core.train.numerics import NonFiniteBudget
from entrenar_core.train.objective import Objective
from entrenar_core.train.process import StopRequest, keep_freed_memory, peak_memory
from entrenar_core.train.quantization import quantized
from entrenar_core.train.warm_up import load_kernels

_STATE = {
    "phase",
    "optimizer_steps",
    "skipped_steps",
    "skipped_total",
    "tokens",
    "seconds",
    "held_out_loss",
}
_LISTED = 8

BESIDE = "objective"
"""The stem of the file, and the start of the names, of what an objective trains besides a model."""


@dataclass(frozen=True)
class PhaseResult:
    """How long a phase of training took, over all the processes that worked on it."""

    steps: int
    tokens: int
    seconds: float
    skipped: int

    @property
    def tokens_per_second(self) -> float:
        return self.tokens / self.seconds if self.seconds else math.nan


class Rows(Protocol):
    """Training batches, such as `Batches`, `MaskedBatches` or `TextBatches`, of a kind that the
    objective knows."""

    steps_per_epoch: int

    def batch(self, position: int) -> Any:
        """The batch at `position`, counted from 0 across epochs, always the same one. It has
        `row_ids`, `targets`, which a mean loss divides by, and `tokens`, for the log."""
        ...

    def names(self, row_ids: np.ndarray) -> list[str]:
        """What the rows are made of, for people."""
        ...


class Trainer:
    """Trains `model` on `batches` towards `objective`, as one named phase of a run: those of its
    parameters that require a gradient, which with an adapter are the adapter's; and the objective's
    own, which are saved apart from the model's.

    Every step is a pure function of the seed, the data and the step's number; the state is the
    trained weights, the moments and a few counters, all in each checkpoint. `evaluate` returns a
    held-out loss; the checkpoint with the lowest one is kept besides the last ones.

    With `config.quantization`, `quantized` is the model's handle (None without): steps see weights
    as its schedule says, `evaluate` is called with those that will be stored, and the model's own
    stay in full precision until `quantized.finish()`. Steps with an evaluation, and the last one,
    log the ratio of signal to noise of each matrix (`sqnr_db`).
    """

    def __init__(
        self,
        model: Any,
        objective: Objective,
        batches: Rows,
        config: TrainingConfig,
        *,
        phase: str,
        metrics: MetricsLog,
        store: CheckpointStore,
        checkpoint_every: int,
        evaluate: Callable[[], float] | None = None,
    ):
        self.model, self.objective, self.batches, self.config = model, objective, batches, config
        self.phase, self.metrics, self.store = phase, metrics, store
        self.checkpoint_every, self.evaluate = checkpoint_every, evaluate
        self.total_steps = total_steps(config, batches)
        keep_freed_memory()
        self.quantized = None
        learned = {}
        if config.quantization is not None:
            self.quantized = quantized(
                model, config.quantization, seed=config.seed, steps=self.total_steps
            )
            learned = self.quantized.parameters()
        self.trained = {n: p for n, p in model.named_parameters().items() if p.requires_grad}
        self.beside = {f"{BESIDE}.{n}": p for n, p in objective.parameters().items()}
        self.optimizer = AdamW(
            {**self.trained, **self.beside, **learned},
            beta1=config.beta1,
            beta2=config.beta2,
            eps=config.epsilon,
            weight_decay=config.weight_decay,
        )
        if self.quantized is None:  # whose observers would see what is no step
            load_kernels(objective, batches.batch(0), self.optimizer)
        self.step = 0
        self.budget = NonFiniteBudget()
        self._tokens, self._seconds = 0, 0.0
        self._held_out: float | None = None
        self._last_checkpoint: Path | None = None

    def resume(self) -> bool:
        """Continue from the newest whole checkpoint of this phase; False when there is none.

        Raises CheckpointError when there are checkpoints but none can be used.
        """
        found = self.store.latest()
        if found is not None:
            self.restore(found)
        return found is not None

    def restore(self, checkpoint: Checkpoint) -> None:
        """Take over weights, moments and counters, and drop the log lines that came after."""
        state = checkpoint.state
        if state.get("phase") != self.phase:
            raise CheckpointError(
                f"{checkpoint.path}: is of the phase {state.get('phase')!r}, not {self.phase!r}",
                hint="give a checkpoint of the phase that is to be continued",
            )
        saved = {"model": self.trained} | ({BESIDE: self.beside} if self.beside else {})
        weights = {stem: checkpoint.tensors(stem) for stem in saved}
        if missing := _STATE - state.keys():
            raise CheckpointError(
                f"{checkpoint.path}: its state lacks {', '.join(sorted(missing))}",
                hint="use the version of entrenar that wrote it",
            )
        if any(_shapes(weights[stem]) != _shapes(trained) for stem, trained in saved.items()):
            raise CheckpointError(
                f"{checkpoint.path}: its tensors are not those of this model",
                hint="resume with the config that the checkpoint was made with",
            )
        for stem, trained in saved.items():
            for name, parameter in trained.items():
                parameter.data[...] = weights[stem][name]
        if self.quantized is not None:
            self.quantized.restore(checkpoint.tensors("quantization"))
        self.optimizer.restore(checkpoint.tensors("optimizer"), state["optimizer_steps"])
        self.step = checkpoint.step
        self.budget = NonFiniteBudget(state["skipped_steps"], state["skipped_total"])
        self._tokens, self._seconds = state["tokens"], state["seconds"]
        self._held_out = state["held_out_loss"]
        self._last_checkpoint = checkpoint.path

    def fit(
        self, *, progress: Progress | None = None, stop: StopRequest | None = None
    ) -> PhaseResult:
        """Train to the end. Raises InterruptedRun, after saving, when `stop` is set meanwhile."""
        progress = progress or NullProgress()
        self.metrics.rewind(self.phase, self.step)
        progress.start(self.phase, self.total_steps)
        if self.step:
            progress.advance(self.step)
        while self.step < self.total_steps:
            record = self._advance()
            progress.advance(1, **self._shown(record))
            record |= self._evaluated()
            self.metrics.append(record)
            self.budget.check(self.step, record.get("rows", ""), self._good_checkpoint())
            if self._due(self.checkpoint_every) or self.step == self.total_steps or stop:
                self._save()
            if stop and self.step < self.total_steps:
                raise InterruptedRun(
                    f"stopped at step {self.step} of {self.total_steps} of {self.phase}; "
                    f"saved in {self._last_checkpoint}",
                    hint="go on with --resume auto",
                )
        progress.finish()
        return PhaseResult(self.step, self._tokens, self._seconds, self.budget.total)

    def _evaluated(self) -> dict[str, Any]:
        """What the log says besides of a step that ends with an evaluation."""
        found: dict[str, Any] = {}
        due, handle = self._due(self.config.evaluate_every), self.quantized
        if handle is not None and due:
            handle.observe(self.step)
        if due and self.evaluate is not None:
            with nullcontext() if handle is None else handle.exported():
                self._held_out = self.evaluate()
            found["held_out_loss"] = self._held_out
        # not where checkpoints are: a log does not depend on when a run was interrupted
        if handle is not None and (due or self.step == self.total_steps):
            found["sqnr_db"] = {n: round(e.sqnr_db, 3) for n, e in handle.errors().items()}
        return found

    def _shown(self, record: dict[str, Any]) -> dict[str, float | str]:
        """What a progress bar says about a step."""
        shown: dict[str, float | str] = {
            "loss": record["loss"],
            "tokens_per_s": record["tokens_per_second"],
        }
        if self.budget.total:
            shown["skipped"] = self.budget.total
        return shown

    def _due(self, every: int | None) -> bool:
        return every is not None and self.step % every == 0

    def _advance(self) -> dict[str, Any]:
        """One optimizer step; returns its log record."""
        started = time.perf_counter()
        config, accumulation = self.config, self.config.gradient_accumulation
        rate = learning_rate(
            self.step,
            peak=config.learning_rate,
            warmup=config.warmup_steps,
            total=self.total_steps,
            schedule=config.schedule,
            floor_ratio=config.min_learning_rate_ratio,
        )
        first = self.step * accumulation
        micro_batches = [self.batches.batch(first + i) for i in range(accumulation)]
        targets = sum(batch.targets for batch in micro_batches)
        tokens = sum(batch.tokens for batch in micro_batches)
        self.objective.begin(self.step, micro_batches)
        loss = self._gradients(micro_batches, max(1, targets))
        norm = math.nan
        if math.isfinite(loss):
            norm = self.optimizer.step(rate, max_norm=config.max_grad_norm)
        self.step += 1
        self.budget.record(self.step, math.isfinite(norm))
        seconds = time.perf_counter() - started
        self._tokens += tokens
        self._seconds += seconds
        record: dict[str, Any] = {"phase": self.phase, "step": self.step, "loss": loss}
        record |= self.objective.parts()
        record |= {"learning_rate": rate, "grad_norm": norm, "tokens": tokens}
        if not math.isfinite(norm):
            record |= {"skipped": True, "rows": self._rows(micro_batches)}
        record |= {
            "seconds": round(seconds, 6),
            "tokens_per_second": round(tokens / seconds, 1),
            "memory_bytes": peak_memory(),
        }
        return record

    def _gradients(self, micro_batches: Sequence[Any], targets: int) -> float:
        """Add up the gradients of a step; returns its loss per target."""
        self.optimizer.zero_grad()
        total = 0.0
        with self._on_stored_weights():
            for index, batch in enumerate(micro_batches):
                # by the number of the micro-batch: a step that is taken again drops the same
                with dropout(self.config.seed, self.step * len(micro_batches) + index):
                    loss = self.objective.loss(batch, targets)
                    loss.backward()
                total += loss.item()
            if self.quantized is not None and not math.isfinite(total):
                self.quantized.forget_inputs()
        return total

    def _on_stored_weights(self) -> AbstractContextManager[None]:
        return nullcontext() if self.quantized is None else self.quantized.active(self.step)

    def _rows(self, micro_batches: Sequence[Any]) -> str:
        """The rows of a step and the documents that they are from, for people."""
        ids = np.concatenate([batch.row_ids for batch in micro_batches])
        return (
            f"rows {_listed(ids.tolist())} of the dataset, from {_listed(self.batches.names(ids))}"
        )

    def _save(self) -> None:
        self._check_weights()
        self.metrics.sync()
        tensors = {
            "model": {n: p.data for n, p in self.trained.items()},
            "optimizer": self.optimizer.state(),
        }
        if self.beside:
            tensors[BESIDE] = {n: p.data for n, p in self.beside.items()}
        if self.quantized is not None:
            tensors["quantization"] = self.quantized.state()
        self._last_checkpoint = self.store.save(
            self.step,
            tensors=tensors,
            state={
                "phase": self.phase,
                "optimizer_steps": self.optimizer.steps,
                "skipped_steps": self.budget.skipped,
                "skipped_total": self.budget.total,
                "tokens": self._tokens,
                "seconds": self._seconds,
                # JSON has no NaN, and such a loss is the worst there is anyway
                "held_out_loss": self._held_out if math.isfinite(self._held_out or 0) else None,
            },
            metric=self._held_out,
        )

    def _check_weights(self) -> None:
        """Weights that are not finite are never saved: the checkpoints before them stay good."""
        for name, parameter in {**self.trained, **self.beside}.items():
            if not np.isfinite(parameter.data).all():
                raise NumericsError(
                    f"the weights of {name} are not finite at step {self.step} of {self.phase}: "
                    "not saved",
                    hint="lower training.learning_rate, or check the student that was started "
                    f"from; last good checkpoint: {self._good_checkpoint()}",
                )

    def _good_checkpoint(self) -> str:
        return str(self._last_checkpoint) if self._last_checkpoint else "none yet"


def total_steps(config: TrainingConfig, batches: Rows) -> int:
    """The optimizer steps that `config` asks for: max_steps, or whole epochs of `batches`."""
    if config.max_steps is not None:
        return config.max_steps
    steps = (config.epochs or 1) * batches.steps_per_epoch // config.gradient_accumulation
    if steps == 0:
        raise ConfigError(
            f"{batches.steps_per_epoch} micro-batches an epoch are fewer than "
            f"gradient_accumulation {config.gradient_accumulation}: not one optimizer step",
            hint="use more data, a smaller batch or less accumulation",
        )
    return steps


def _shapes(tensors: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    return {name: tensor.shape for name, tensor in tensors.items()}


def _listed(values: Sequence[Any]) -> str:
    more = f" and {len(values) - _LISTED} more" if len(values) > _LISTED else ""
    return ", ".join(map(str, values[:_LISTED])) + more
