"""A training from its configuration to its report."""

import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from entrenar_common.progress import NullProgress, Progress
from entrenar_core import lora, models
from entrenar_core.convert.lattice import write_lattice
from entrenar_core.convert.recipe import recipe_named
from entrenar_core.environment import environment
from entrenar_core.io import files
from entrenar_core.train.callbacks import Callback
from entrenar_core.train.checkpoint import Checkpoint
from entrenar_core.train.declarative import merging
from entrenar_core.train.declarative.evaluation import measure, objective
from entrenar_core.train.declarative.inputs import Inputs, read_inputs
from entrenar_core.train.declarative.page import report_page
from entrenar_core.train.declarative.report import (
    Measured,
    TrainPlan,
    TrainReport,
    read_report,
    to_json,
    to_markdown,
)
from entrenar_core.train.declarative.spec import TrainSpec, as_yaml, resolve, spec_hash
from entrenar_core.train.declarative.start import HEADS
from entrenar_core.train.loop import PhaseResult, TrainingLoop
from entrenar_core.train.noticed import Noticed
from entrenar_core.train.observe import callbacks_of
from entrenar_core.train.process import StopRequest, stop_at_step_end
from entrenar_core.train.run_folder import ADAPTER, AUTO, NEVER, Identity, RunFolder, go_on
from entrenar_core.train.stored_numbers import Finished, finish

__all__ = ["TrainFolder", "plan", "train", "train_from_yaml"]

PHASE = "training"
PHASES = (PHASE,)
GGUF, PAGE = "model.gguf", "report.html"
BEFORE, AFTER, MERGED = "before training", "trained", "merged"


class TrainFolder(RunFolder):
    """The files of one training."""

    schema = "entrenar.train.run-folder/1"
    config_name = "train.yaml"
    decides_nothing = ("output.", "observe.")


def train_from_yaml(
    path: str | os.PathLike[str],
    overrides: Sequence[tuple[str, str]] = (),
    *,
    resume: str = NEVER,
    progress: Progress | None = None,
    warn: Callable[[str], None] = lambda _text: None,
    callbacks: Sequence[Callback] = (),
) -> TrainReport:
    """Train as the YAML file at `path` says, with `overrides` laid over it: dotted keys with their
    values as text, such as ("training.epochs", "3"). See `train`.

    Raises ConfigError naming every problem of the file, and what `train` raises.
    """
    spec = resolve(path, overrides)
    return train(spec, resume=resume, progress=progress, warn=warn, callbacks=callbacks)


def train(
    spec: TrainSpec,
    *,
    resume: str = NEVER,
    progress: Progress | None = None,
    warn: Callable[[str], None] = lambda _text: None,
    callbacks: Sequence[Callback] = (),
) -> TrainReport:
    """Train as `spec` says; returns the report that is also in the output folder.

    `resume`: "never" (a folder that holds a run is refused), "auto" (go on from its newest whole
    checkpoint; a finished run is not repeated) or a checkpoint's folder. `warn` is told what a user
    should know, `callbacks` of the training, after those that `spec.observe` asks for.

    Raises what is wrong with the inputs before anything is written, and InterruptedRun, with the
    state saved, when SIGINT or SIGTERM arrives meanwhile.
    """
    progress, folder = progress or NullProgress(), _folder(spec, resume)
    callbacks = (*callbacks_of(spec.observe, folder.path, warn=warn), *callbacks)
    inputs = read_inputs(spec, progress=progress)
    for text in inputs.warnings():
        warn(text)
    with folder.locked(), stop_at_step_end() as stop:
        folder.enter(_identity(inputs), resume=resume, phases=PHASES)
        explicit = None
        if resume not in (AUTO, NEVER):
            explicit = folder.checkpoint(Path(resume), keep_last=spec.output.keep_checkpoints)
        elif folder.report.exists():
            return read_report(folder.report)
        return _Session(inputs, folder, progress, warn, stop, explicit, callbacks).report()


def plan(spec: TrainSpec, *, resume: str = NEVER, progress: Progress | None = None) -> TrainPlan:
    """Read and check everything that `train` would, and write nothing but the token cache."""
    folder = _folder(spec, resume)
    callbacks_of(spec.observe, folder.path, warn=lambda _text: None)  # raises where one cannot be
    inputs, done = read_inputs(spec, progress=progress or NullProgress()), 0
    if folder.holds_run:
        folder.enter(_identity(inputs), resume=resume, phases=PHASES)
        found = folder.store(PHASE, keep_last=spec.output.keep_checkpoints).latest()
        done = found.step if found else 0
    return TrainPlan(
        task=inputs.decision.task,
        why=inputs.decision.why,
        model=spec.model.name,
        parameters=inputs.parameters,
        trained=inputs.trained,
        rows=len(inputs.train),
        held_out=len(inputs.held_out),
        tokens=inputs.train.total_tokens,
        steps=inputs.steps,
        steps_per_epoch=inputs.batches.steps_per_epoch // spec.training.gradient_accumulation,
        optimizer=_optimizer(spec),
        words=inputs.words,
        output=spec.output.dir,
        done=done,
    )


def _folder(spec: TrainSpec, resume: str) -> TrainFolder:
    """The output folder, which a run may use. Raises what `RunFolder.check` raises, and
    RefusedError where there is something already that the merged model would be written over."""
    folder, merged = TrainFolder(Path(spec.output.dir)), merging.output_of(spec)
    folder.check(resume, PHASES)
    if merged is not None:
        merging.check_output(folder.path, merged)
    return folder


def _identity(inputs: Inputs) -> Identity:
    spec = inputs.spec
    config = spec.model_dump(mode="json")
    return Identity(config, spec_hash(spec), as_yaml(spec), inputs.fingerprints())


def _optimizer(spec: TrainSpec) -> str:
    section = spec.optimizer
    given = "".join(f", {key} {value:g}" for key, value in section.given.items())
    return f"{section.name}, lr {section.lr:g}{given}"


class _Session:
    """One training, once its folder is its own."""

    def __init__(
        self,
        inputs: Inputs,
        folder: TrainFolder,
        progress: Progress,
        warn: Callable[[str], None],
        stop: StopRequest,
        explicit: Checkpoint | None,
        callbacks: Sequence[Callback],
    ):
        self.inputs, self.folder, self.progress = inputs, folder, progress
        self.warn, self.stop, self.explicit = warn, stop, explicit
        self.noticed = Noticed()
        self.callbacks = (*callbacks, self.noticed)

    def report(self) -> TrainReport:
        """Train, write the model, measure what was written, and write the report."""
        model = self.inputs.new_model()
        before = self._measured(BEFORE, model)
        result, stored = self._train(model)
        scores = (before, *self._written(model, stored))
        report = self._report(result, scores, stored)
        files.write_text(self.folder.path / "report.md", to_markdown(report))
        records = self.folder.metrics.records(PHASE)
        shown = report_page(report, records, self.inputs.spec, noticed=self.noticed.all)
        files.write_text(self.folder.path / PAGE, shown)
        files.write_json(self.folder.report, to_json(report))  # last: it says the run is finished
        return report

    def _train(self, model: Any) -> tuple[PhaseResult, Finished | None]:
        spec, inputs = self.inputs.spec, self.inputs
        store = self.folder.store(PHASE, keep_last=spec.output.keep_checkpoints)
        with store.lock():
            store.collect_garbage()
            trainer = TrainingLoop(
                model,
                objective(inputs, model),
                inputs.batches,
                spec.training_config(),
                phase=PHASE,
                metrics=self.folder.metrics,
                store=store,
                checkpoint_every=spec.output.checkpoint_every,
                evaluate=partial(measure, inputs, model),
                optimizer=spec.optimizer.make,
                callbacks=self.callbacks,
            )
            go_on(trainer, store, self.folder.metrics, explicit=self.explicit, warn=self.warn)
            result = trainer.fit(progress=self.progress, stop=self.stop)
        if trainer.quantized is None:
            return result, None
        held_out = partial(self._loss, model)
        return result, finish(trainer.quantized, spec.training_config(), held_out)

    def _loss(self, model: Any) -> float:
        return measure(self.inputs, model)["held_out_loss"]

    def _written(self, model: Any, stored: Finished | None) -> list[Measured]:
        """Write the trained model, and what else is made of it; what was written is measured."""
        inputs, spec, path = self.inputs, self.inputs.spec, self.folder.path
        if spec.lora is not None:
            (adapter,) = lora.adapters_of(model).values()
            adapter.save(path / ADAPTER, base_model=spec.model.path)
            if spec.lora.fuse and not model.fused:  # stored weights have it in them already
                lora.fuse(model)
        inputs.tokenizer.save(path)
        if spec.lora is not None and not spec.lora.fuse:
            model = inputs.bare_model()
            lora.load_adapter(model, path / ADAPTER)
            return [self._measured(AFTER, model)]
        models.save(model, path)
        found = [self._measured(AFTER, self._load(path))]
        if stored is not None and spec.recipe is not None:
            recipe = recipe_named(spec.recipe)
            write_lattice(path, path / GGUF, recipe, weights=stored.weights, progress=self.progress)
            found.append(self._measured(f"{GGUF} in {spec.recipe}", self._load(path / GGUF)))
        merged = merging.output_of(spec)
        if spec.merge is not None and merged is not None:
            merging.merge_trained(spec.merge, path, merged, progress=self.progress)
            found.append(self._measured(MERGED, self._load(merged)))
        return found

    def _load(self, path: Path) -> Any:
        return models.load(path, head=HEADS[self.inputs.decision.task])

    def _measured(self, name: str, model: Any) -> Measured:
        between = partial(self.stop.check, "measuring the model")
        figures = measure(self.inputs, model, progress=self.progress, between=between)
        return Measured(name, model.parameter_count(), figures)

    def _report(
        self, result: PhaseResult, scores: tuple[Measured, ...], stored: Finished | None
    ) -> TrainReport:
        inputs, spec = self.inputs, self.inputs.spec
        return TrainReport(
            task=inputs.decision.task,
            why=inputs.decision.why,
            model=spec.model.name,
            parameters=inputs.parameters,
            trained=inputs.trained,
            rows=len(inputs.train),
            held_out=len(inputs.held_out),
            optimizer=_optimizer(spec),
            seed=spec.training.seed,
            steps=result.steps,
            seconds=result.seconds,
            tokens=result.tokens,
            tokens_per_second=result.tokens_per_second,
            skipped_steps=result.skipped,
            stopped=result.stopped,
            scores=scores,
            words=inputs.words,
            environment=environment(),
            config_hash=self.folder.config_hash,
            inputs=self.folder.inputs,
            files=_files_of(self.folder, spec),
            quantization=None if stored is None else stored.record,
        )


def _files_of(folder: TrainFolder, spec: TrainSpec) -> dict[str, str]:
    """What is in the folder of a finished run, by its purpose."""
    whole = spec.lora is None or spec.lora.fuse
    names = {
        **({"model": "."} if whole else {}),
        "report": "report.md",
        "report with curves": PAGE,
        "report data": folder.report.name,
        "metrics": folder.metrics.path.name,
        "checkpoints": "checkpoints",
        "configuration": folder.config_name,
        **({"adapter": ADAPTER} if spec.lora is not None else {}),
        **({"model for llama.cpp": GGUF} if spec.recipe is not None else {}),
    }
    merged = merging.output_of(spec)
    found = {title: str(folder.path / name) for title, name in names.items()}
    return found if merged is None else {**found, "merged model": str(merged)}
