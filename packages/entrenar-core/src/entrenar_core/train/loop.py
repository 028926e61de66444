"""The training loop: batches in, a trained model and a log out, resumable to the bit."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from entrenar_common.errors import ConfigError, InterruptedRun
from entrenar_common.progress import NullProgress, Progress
from entrenar_core.autograd import Parameter
from entrenar_core.autograd.precision import multiplied_in
from entrenar_core.optim import AdamW, Optimizer, learning_rate
from entrenar_core.train.average import WeightAverage
from entrenar_core.train.callbacks import Callback, Callbacks, Outcome, Run, StopTraining
from entrenar_core.train.checkpoint import Checkpoint, CheckpointStore
from entrenar_core.train.config import TrainingConfig
from entrenar_core.train.continuing import check_continues, settings_of
from entrenar_core.train.judge import Evaluate, Judge, finite
from entrenar_core.train.metrics import MetricsLog
from entrenar_core.train.numerics import NonFiniteBudget
from entrenar_core.train.objective import Objective
from entrenar_core.train.process import StopRequest, keep_freed_memory, peak_memory
from entrenar_core.train.quantization import quantized
from entrenar_core.train.rows import Rows, described, total_steps
from entrenar_core.train.state import BESIDE, TrainingState
from entrenar_core.train.step import Steps
from entrenar_core.train.warm_up import load_kernels

MakeOptimizer = Callable[[Mapping[str, Parameter]], Optimizer]


@dataclass(frozen=True)
class PhaseResult:
    """How long a phase of training took, over all the processes that worked on it.

    stopped: why it ended before all of its steps; empty where it did not
    """

    steps: int
    tokens: int
    seconds: float
    skipped: int
    stopped: str = ""

    @property
    def tokens_per_second(self) -> float:
        return self.tokens / self.seconds if self.seconds else math.nan


class TrainingLoop:
    """Trains `model` on `batches` towards `objective`, as one named phase of a run: those of its
    parameters that require a gradient, which with an adapter are the adapter's; and the objective's
    own, which are saved apart from the model's.

    Every step is a pure function of the seed, the data and the step's number; the state is the
    trained weights, the moments and a few counters, all in each checkpoint. `evaluate` measures
    what is held out; the checkpoint with the best `config.metric` is kept besides the last ones.
    `optimizer` makes one for parameters by name; without it, that is AdamW as `config` has it.
    `callbacks` are told what happens. Without
    `metrics` there is no log, without `store` nothing is saved.

    With `config.quantization`, `quantized` is the model's handle (None without): steps see weights
    as its schedule says, `evaluate` is called with those that will be stored, and the model's own
    stay in full precision until `quantized.finish()`. Steps with an evaluation, and the last one,
    log the ratio of signal to noise of each matrix (`sqnr_db`).

    With `config.average_decay`, `evaluate` sees the averages of the weights, and they are what the
    model has when `fit` is done.
    """

    def __init__(
        self,
        model: Any,
        objective: Objective,
        batches: Rows,
        config: TrainingConfig,
        *,
        phase: str,
        metrics: MetricsLog | None,
        store: CheckpointStore | None,
        checkpoint_every: int,
        evaluate: Evaluate | None = None,
        optimizer: MakeOptimizer | None = None,
        callbacks: Sequence[Callback] = (),
    ):
        self.model, self.objective, self.batches, self.config = model, objective, batches, config
        self.phase, self.metrics, self.store = phase, metrics, store
        self.checkpoint_every, self.evaluate = checkpoint_every, evaluate
        self.total_steps = total_steps(config, batches)
        self.callbacks = Callbacks(callbacks)
        self.recorder = self.callbacks.recorder()
        keep_freed_memory()
        _recompute(model, config)
        self.quantized = None
        learned = {}
        if config.quantization is not None:
            self.quantized = quantized(
                model, config.quantization, seed=config.seed, steps=self.total_steps
            )
            learned = self.quantized.parameters()
        trained = {n: p for n, p in model.named_parameters().items() if p.requires_grad}
        beside = {f"{BESIDE}.{n}": p for n, p in objective.parameters().items()}
        self.optimizer = (optimizer or _adamw(config))({**trained, **beside, **learned})
        self.average = None
        if config.average_decay is not None:
            self.average = WeightAverage(trained, config.average_decay)
        self.state = TrainingState(
            trained, beside, self.optimizer, quantized=self.quantized, average=self.average
        )
        if self.quantized is None:  # whose observers would see what is no step
            with multiplied_in(config.products):
                load_kernels(objective, batches.batch(0), self.optimizer)
        self._steps = Steps(
            objective, batches, config, self.optimizer,
            quantized=self.quantized, recorder=self.recorder,
        )  # fmt: skip
        self.step = 0
        self.budget = NonFiniteBudget()
        self.judge = Judge(config)
        self._tokens, self._seconds = 0, 0.0
        self._last_checkpoint: Path | None = None

    def resume(self) -> bool:
        """Continue from the newest whole checkpoint of this phase; False when there is none.

        Raises CheckpointError when there are checkpoints but none can be used.
        """
        found = None if self.store is None else self.store.latest()
        if found is not None:
            self.restore(found)
        return found is not None

    def restore(self, checkpoint: Checkpoint) -> None:
        """Take over weights, moments and counters. Raises CheckpointError for a checkpoint of
        another phase, other settings or another model."""
        check_continues(
            checkpoint, phase=self.phase, settings=settings_of(self.config, self.batches)
        )
        state = checkpoint.state
        self.state.restore(checkpoint, state["optimizer_steps"])
        self.step = checkpoint.step
        self.budget = NonFiniteBudget(state["skipped_steps"], state["skipped_total"])
        self.judge.restore(state, checkpoint.manifest.metric)
        self._tokens, self._seconds = state["tokens"], state["seconds"]
        self._last_checkpoint = checkpoint.path

    def fit(
        self, *, progress: Progress | None = None, stop: StopRequest | None = None
    ) -> PhaseResult:
        """Train to the end. Raises InterruptedRun, after saving, when `stop` is set meanwhile."""
        if self.metrics is not None:
            self.metrics.rewind(self.phase, self.step)
        self.callbacks.started(self._run())
        self.recorder.begin("run", phase=self.phase)
        try:
            with self.recorder.watching():
                stopped = self._train(progress or NullProgress(), stop)
        except BaseException as error:
            self._failed(error)
            raise
        self._ended("stopped" if stopped else "finished")
        self._finish()
        return PhaseResult(self.step, self._tokens, self._seconds, self.budget.total, stopped)

    def _train(self, progress: Progress, stop: StopRequest | None) -> str:
        """All steps that are left; returns why they were not all taken, empty when they were."""
        progress.start(self.phase, self.total_steps)
        if self.step:
            progress.advance(self.step)
        stopped = self.judge.gives_up()
        while self.step < self.total_steps and not stopped:
            self._begin_epoch()
            record = self._advance()
            progress.advance(1, **self._shown(record))
            better = self._evaluated(record)
            if self.metrics is not None:
                self.metrics.append(record)
            stopped = self._told(record) or self.judge.gives_up()
            self.budget.check(self.step, record.get("rows", ""), self._good_checkpoint())
            last = self.step == self.total_steps or bool(stopped)
            saves = self._due(self.checkpoint_every) or better or last or bool(stop)
            if saves:
                self._save()
            # a signal may have arrived since: what is not saved is not said to be
            if stop and saves and not last:
                raise self._interruption()
        progress.finish()
        return stopped

    def _failed(self, error: BaseException) -> None:
        interrupted = isinstance(error, InterruptedRun | KeyboardInterrupt)
        try:
            self._ended("interrupted" if interrupted else "failed")
        finally:
            raise error  # it says how the training ended; what a callback raises is its context

    def _ended(self, outcome: Outcome) -> None:
        try:
            self.recorder.unwind(outcome=outcome)
        finally:
            self.callbacks.ended(outcome)

    def _interruption(self) -> InterruptedRun:
        where = f"stopped at step {self.step} of {self.total_steps} of {self.phase}"
        if self.store is None:
            return InterruptedRun(
                f"{where}; nothing is saved", hint="give a folder for checkpoints"
            )
        return InterruptedRun(
            f"{where}; saved in {self._last_checkpoint}", hint="go on with --resume auto"
        )

    def _run(self) -> Run:
        """What callbacks are told at the beginning."""
        return Run(
            phase=self.phase,
            first_step=self.step,
            total_steps=self.total_steps,
            steps_per_epoch=self.batches.steps_per_epoch / self.config.gradient_accumulation,
            parameters=sum(
                p.data.size for trained in self.state.weights.values() for p in trained.values()
            ),
            settings=self.config.model_dump(mode="json"),
            zero=self.recorder.zero,
            notify=self.callbacks.noticed,
        )

    def _told(self, record: Mapping[str, Any]) -> str:
        """Tell callbacks of a step; returns why one of them ends the training, mostly empty."""
        try:
            self.callbacks.step(record)
        except StopTraining as request:
            return str(request) or "a callback asked for it"
        return ""

    def _begin_epoch(self) -> None:
        """A span for each pass over the data, which ends where the next one begins."""
        first = self.step * self.config.gradient_accumulation
        epoch, place = divmod(first, self.batches.steps_per_epoch)
        if place < self.config.gradient_accumulation or not self.recorder.depth - 1:
            self.recorder.unwind(1)
            self.recorder.begin("epoch", epoch=epoch + 1)

    def _evaluated(self, record: dict[str, Any]) -> bool:
        """Add to a step's line of the log what an evaluation after it says; whether a training
        that stops early has to keep what it found."""
        due, handle = self._due(self.config.evaluate_every), self.quantized
        if handle is not None and due:
            handle.observe(self.step)
        better = False
        if due and self.evaluate is not None:
            with self.recorder.span("evaluation"), self._as_stored():
                figures, better = self.judge.measure(self.evaluate)
            record |= figures
        # not where checkpoints are: a log does not depend on when a run was interrupted
        if handle is not None and (due or self.step == self.total_steps):
            record["sqnr_db"] = {n: round(e.sqnr_db, 3) for n, e in handle.errors().items()}
        return better

    def _as_stored(self) -> AbstractContextManager[None]:
        """Inside, the model is what it will be when training is done."""
        if self.average is not None:
            return self.average.applied()
        return nullcontext() if self.quantized is None else self.quantized.exported()

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
        started, span = time.perf_counter(), self.recorder.span
        rate = self._rate()
        with span("step", step=self.step + 1):
            taken = self._steps.take(self.step, rate)
            if self.average is not None and taken.finite:
                self.average.update()
        self.step += 1
        self.budget.record(self.step, taken.finite)
        seconds, tokens = time.perf_counter() - started, taken.tokens
        self._tokens += tokens
        self._seconds += seconds
        record: dict[str, Any] = {"phase": self.phase, "step": self.step, "loss": taken.loss}
        record |= self.objective.parts()
        record |= {"learning_rate": rate, "grad_norm": taken.norm, "tokens": tokens}
        if not taken.finite:
            record |= {"skipped": True, "rows": described(self.batches, taken.micro_batches)}
        record |= {
            "seconds": round(seconds, 6),
            "tokens_per_second": round(tokens / seconds, 1),
            "memory_bytes": peak_memory(),
        }
        return record

    def _rate(self) -> float:
        config = self.config
        return learning_rate(
            self.step,
            peak=config.learning_rate,
            warmup=config.warmup_steps,
            total=self.total_steps,
            schedule=config.schedule,
            floor_ratio=config.min_learning_rate_ratio,
        )

    def _save(self) -> None:
        # weights that are not finite are never saved: the checkpoints before them stay good
        self.state.check_finite(f"step {self.step} of {self.phase}", self._good_checkpoint())
        if self.store is None:
            return
        if self.metrics is not None:
            self.metrics.sync()
        # of another step's weights an evaluation says nothing
        measured = self.judge.cost if self._due(self.config.evaluate_every) else None
        with self.recorder.span("checkpoint", step=self.step):
            self._last_checkpoint = self.store.save(
                self.step,
                tensors=self.state.tensors(),
                state={
                    "phase": self.phase,
                    "settings": settings_of(self.config, self.batches),
                    "optimizer_steps": self.optimizer.steps,
                    "skipped_steps": self.budget.skipped,
                    "skipped_total": self.budget.total,
                    "tokens": self._tokens,
                    "seconds": self._seconds,
                    **self.judge.state(),
                },
                metric=finite(measured),
            )
        self.callbacks.saved(self._last_checkpoint, self.step)

    def _finish(self) -> None:
        """Give the model what the training was for: the best weights, or their averages."""
        best = None
        if self.store is not None and self.config.early_stopping is not None:
            best = self.store.best()
        if best is not None:
            self.state.restore_weights(best, averaged=self.average is not None)
        elif self.average is not None:
            self.average.finish()

    def _good_checkpoint(self) -> str:
        return str(self._last_checkpoint) if self._last_checkpoint else "none yet"


def _recompute(model: Any, config: TrainingConfig) -> None:
    """Tell `model` whether to keep its activations. Raises ConfigError for one without blocks."""
    if hasattr(model, "recompute"):
        model.recompute = config.checkpointing
    elif config.checkpointing:
        raise ConfigError(
            f"training.checkpointing: {type(model).__name__} has no blocks to compute again",
            hint="leave it out, or use entrenar_core.checkpoint in the model",
        )


def _adamw(config: TrainingConfig) -> MakeOptimizer:
    return partial(
        AdamW,
        beta1=config.beta1,
        beta2=config.beta2,
        eps=config.epsilon,
        weight_decay=config.weight_decay,
    )
