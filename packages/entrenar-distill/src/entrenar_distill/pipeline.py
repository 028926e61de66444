"""A distillation from start to report: train the student, train the control, measure, export."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from entrenar_common.progress import NullProgress, Progress
from entrenar_core import models
from entrenar_core.io import files
from entrenar_core.train.callbacks import Callback
from entrenar_core.train.checkpoint import Checkpoint, CheckpointStore
from entrenar_core.train.loop import PhaseResult, TrainingLoop
from entrenar_core.train.noticed import Noticed
from entrenar_core.train.objective import Objective
from entrenar_core.train.observe import callbacks_of
from entrenar_core.train.process import StopRequest, stop_at_step_end
from entrenar_core.train.run_folder import go_on
from entrenar_core.train.stored_numbers import Finished, finish
from entrenar_distill import adapted, quantized
from entrenar_distill.config import DistillConfig
from entrenar_distill.out_of_memory import explained
from entrenar_distill.page import run_page
from entrenar_distill.plan import Plan
from entrenar_distill.present import to_markdown
from entrenar_distill.report_json import to_json
from entrenar_distill.run_folder import AUTO, NEVER, PAGE, RunFolder
from entrenar_distill.task import CONTROL, STUDENT, Task, task_of


def plan(config: DistillConfig, *, resume: str = NEVER, progress: Progress | None = None) -> Plan:
    """Read and check everything that `run` would, and write nothing but the token cache."""
    folder, task = RunFolder(Path(config.output.dir)), task_of(config)
    folder.check(resume, phases_of(config))
    callbacks_of(config.observe, folder.path, warn=lambda _text: None)
    inputs = task.read_inputs(config, progress=progress or NullProgress())
    done: dict[str, int] = {}
    if folder.holds_run:
        folder.open(config, inputs.fingerprints(), resume=resume, phases=phases_of(config))
        for phase in phases_of(config):
            found = store_of(folder, phase, config).latest()
            done |= {phase: found.step} if found else {}
    return task.plan(inputs, phases=phases_of(config), done=done)


def run(
    config: DistillConfig,
    *,
    resume: str = NEVER,
    progress: Progress | None = None,
    warn: Callable[[str], None] = lambda _text: None,
    callbacks: Sequence[Callback] = (),
) -> Any:
    """Distil as `config` says; returns the report that is also in the output folder: a `RunReport`
    for language models, a `TextReport` for the tasks about whole texts.

    `resume`: "never" (a folder that holds a run is refused), "auto" (go on from its newest whole
    checkpoint; a finished run is not repeated, but gets the control that it has not) or
    a checkpoint's folder. `callbacks` are told of every phase of the training, after those that
    `config.observe` asks for.

    Raises InterruptedRun, with the state saved, when SIGINT or SIGTERM arrives meanwhile, and
    OutOfMemoryError where the memory does not suffice.
    """
    progress = progress or NullProgress()
    folder, phases, task = RunFolder(Path(config.output.dir)), phases_of(config), task_of(config)
    folder.check(resume, phases)
    callbacks = (*callbacks_of(config.observe, folder.path, warn=warn), *callbacks)
    inputs = task.read_inputs(config, progress=progress)
    for text in task.warnings(inputs):
        warn(text)
    with folder.locked(), explained(config), stop_at_step_end() as stop:
        folder.open(config, inputs.fingerprints(), resume=resume, phases=phases)
        explicit = None
        if resume not in (AUTO, NEVER):
            explicit = folder.checkpoint(Path(resume), keep_last=config.output.keep_checkpoints)
        elif folder.report.exists():
            found = task.read_report(folder.report)
            if found.score(CONTROL) or not config.control:
                return found
        session = _Session(task, inputs, folder, progress, warn, stop, explicit, callbacks)
        return session.report(phases)


def phases_of(config: DistillConfig) -> tuple[str, ...]:
    """The models that are trained one after the other."""
    return (STUDENT, CONTROL) if config.control else (STUDENT,)


def store_of(folder: RunFolder, phase: str, config: DistillConfig) -> CheckpointStore:
    """The checkpoints of a phase of the run in `folder`."""
    return folder.store(phase, keep_last=config.output.keep_checkpoints)


class _Session:
    """What the phases of one run have in common."""

    def __init__(
        self,
        task: Task,
        inputs: Any,
        folder: RunFolder,
        progress: Progress,
        warn: Callable[[str], None],
        stop: StopRequest,
        explicit: Checkpoint | None,
        callbacks: Sequence[Callback],
    ):
        self.task, self.inputs, self.folder, self.progress = task, inputs, folder, progress
        self.warn, self.stop, self.explicit = warn, stop, explicit
        self.noticed = Noticed()
        self.callbacks = (*callbacks, self.noticed)

    def report(self, phases: tuple[str, ...]) -> Any:
        """Train the phases, export the student, measure all models and write the report."""
        inputs, folder = self.inputs, self.folder
        trained: dict[str, Any] = {}
        timings: dict[str, PhaseResult] = {}
        objectives: dict[str, Objective] = {}
        finished: dict[str, Finished] = {}
        for phase in phases:
            trained[phase] = inputs.new_student()
            objectives[phase], timings[phase], stored = self._phase(phase, trained[phase])
            if stored is not None:
                finished[phase] = stored
        section = inputs.config.student.lora
        adapter = None
        if section is not None:
            adapter = adapted.write(trained[STUDENT], folder.path, inputs.config)
        whole = section is None or section.fuse
        if whole:
            models.save(trained[STUDENT], folder.path)
        inputs.tokenizer.save(folder.path)
        student = finished.get(STUDENT)
        changed = quantized.write(folder.path, student, inputs.config, self.progress)
        # what was written is what is measured
        trained[STUDENT] = (
            self.task.load(inputs, folder.path)
            if whole
            else adapted.read_again(folder.path, inputs)
        )
        if changed is not None:
            file = folder.path / quantized.GGUF
            trained[f"student in {changed}"] = self.task.load(inputs, file)
        found = self.task.report(
            inputs,
            {**self.task.named_teachers(inputs), **trained},
            objectives,
            timings,
            folder,
            self.progress,
            self.stop,
            quantization=student and student.record,
            adapter=adapter,
        )
        files.write_text(folder.path / "report.md", to_markdown(found))
        records = [record for phase in phases for record in folder.metrics.records(phase)]
        shown = run_page(found, records, inputs.config, noticed=self.noticed.all)
        files.write_text(folder.path / PAGE, shown)
        files.write_json(folder.report, to_json(found))
        return found

    def _phase(self, phase: str, model: Any) -> tuple[Objective, PhaseResult, Finished | None]:
        """Train `model`, and let go of what only that takes."""
        trainer, result = self._train(phase, model)
        if trainer.quantized is None:
            return trainer.objective, result, None
        training = self.inputs.config.training
        held_out = partial(self.task.held_out_loss, self.inputs, model, trainer.objective)
        stored = finish(trainer.quantized, training, held_out)
        return trainer.objective, result, stored

    def _train(self, phase: str, model: Any) -> tuple[TrainingLoop, PhaseResult]:
        config, inputs, task = self.inputs.config, self.inputs, self.task
        store = store_of(self.folder, phase, config)
        with store.lock():
            store.collect_garbage()
            objective = task.objective(inputs, phase, model)
            trainer = TrainingLoop(
                model,
                objective,
                inputs.batches,
                config.training,
                phase=phase,
                metrics=self.folder.metrics,
                store=store,
                checkpoint_every=config.output.checkpoint_every,
                evaluate=lambda: task.held_out_loss(inputs, model, objective),
                callbacks=self.callbacks,
            )
            go_on(trainer, store, self.folder.metrics, explicit=self.explicit, warn=self.warn)
            return trainer, trainer.fit(progress=self.progress, stop=self.stop)
