"""A distillation from start to report: train the student, train the control, measure, export."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from entrenar_common.errors import CheckpointError
from entrenar_common.progress import NullProgress, Progress
from entrenar_common.tables import Fields, Text
from entrenar_common.units import format_count
from entrenar_core import models
from entrenar_core.data.documents import TokenizedDocuments
from entrenar_core.io import files
from entrenar_core.train.checkpoint import Checkpoint, CheckpointStore
from entrenar_core.train.evaluate import score
from entrenar_core.train.loop import PhaseResult, Trainer, total_steps
from entrenar_core.train.objective import LanguageModelling, Objective
from entrenar_core.train.process import StopRequest, stop_at_step_end
from entrenar_distill import adapted, measure, objectives, quantized, teachers
from entrenar_distill.config import DistillConfig, config_hash
from entrenar_distill.inputs import Inputs, read_inputs
from entrenar_distill.present import to_markdown
from entrenar_distill.report import NORMALISER, RunReport
from entrenar_distill.report_json import read_report, to_json
from entrenar_distill.run_folder import AUTO, NEVER, RunFolder

STUDENT, CONTROL = "student", "control"


@dataclass(frozen=True)
class Plan:
    """What a run would do, for `--dry-run`; `done` are the steps already in the output folder."""

    teacher: str
    teacher_parameters: int
    vocabulary: str
    student: str
    student_parameters: int
    training_documents: int
    training_tokens: int
    held_out_documents: int
    held_out_tokens: int
    tokens_per_step: int
    steps_per_epoch: int
    steps: int
    phases: tuple[str, ...]
    done: dict[str, int]
    output: str
    rows: str
    loss: str
    loss_settings: dict[str, float]
    quantization: str | None = None
    recipe: str | None = None
    features: str | None = None

    def __view__(self) -> list[Any]:
        count = format_count
        steps = f"{self.steps} of {count(self.tokens_per_step)} tokens each"
        done = [f"{phase} {step}" for phase, step in self.done.items()]
        stored = [("stored weights", self.quantization)] if self.quantization else []
        inside = [("inside the teacher", self.features)] if self.features else []
        settings = [f"{name} {value:g}" for name, value in self.loss_settings.items()]
        file = f", with {quantized.GGUF} in {self.recipe}" if self.recipe else ""
        return [
            Fields(
                "What would be done",
                [
                    ("teacher", f"{self.teacher}, {count(self.teacher_parameters)} parameters"),
                    ("student", f"{self.student}, {count(self.student_parameters)} parameters"),
                    ("vocabulary", self.vocabulary),
                    ("training", _documents(self.training_documents, self.training_tokens)),
                    ("held out", _documents(self.held_out_documents, self.held_out_tokens)),
                    ("sequences", self.rows),
                    ("loss", self.loss),
                    ("with", ", ".join(settings)),
                    ("normalised", NORMALISER),
                    ("steps", f"{steps}; an epoch has {self.steps_per_epoch}"),
                    *inside,
                    *stored,
                    ("phases", ", ".join(self.phases)),
                    ("done so far", ", ".join(done) or "nothing"),
                    ("output", f"{self.output}{file}"),
                ],
            ),
            Text("Everything was checked, and nothing was trained."),
        ]


def _documents(documents: int, tokens: int) -> str:
    plural = "" if documents == 1 else "s"
    return f"{documents} document{plural}, {format_count(tokens)} tokens"


def plan(config: DistillConfig, *, resume: str = NEVER, progress: Progress | None = None) -> Plan:
    """Read and check everything that `run` would, and write nothing but the token cache."""
    folder = RunFolder(Path(config.output.dir))
    folder.check(resume, phases_of(config))
    inputs = read_inputs(config, progress=progress or NullProgress())
    training, dataset = config.training, config.dataset
    done: dict[str, int] = {}
    if folder.holds_run:
        folder.open(config, inputs.fingerprints(), resume=resume, phases=phases_of(config))
        for phase in phases_of(config):
            found = store_of(folder, phase, config).latest()
            done |= {phase: found.step} if found else {}
    return Plan(
        teacher=teachers.in_words(inputs.teachers),
        teacher_parameters=sum(each.model.parameter_count() for each in inputs.teachers),
        vocabulary="; ".join(teachers.vocabularies(inputs.teachers)),
        student=measure.student_name(inputs),
        student_parameters=inputs.new_student().parameter_count(),
        training_documents=len(inputs.train),
        training_tokens=inputs.train.total_tokens,
        held_out_documents=len(inputs.held_out),
        held_out_tokens=inputs.held_out.total_tokens,
        tokens_per_step=training.batch_size * training.gradient_accumulation * dataset.max_length,
        steps_per_epoch=inputs.batches.steps_per_epoch // training.gradient_accumulation,
        steps=total_steps(training, inputs.batches),
        phases=phases_of(config),
        done=done,
        output=config.output.dir,
        rows=dataset.rows,
        loss=config.distillation.formula,
        loss_settings=config.distillation.settings(),
        quantization=inputs.quantization,
        recipe=config.recipe,
        features=inputs.features,
    )


def run(
    config: DistillConfig,
    *,
    resume: str = NEVER,
    progress: Progress | None = None,
    warn: Callable[[str], None] = lambda _text: None,
) -> RunReport:
    """Distil as `config` says; returns the report that is also in the output folder.

    `resume`: "never" (a folder that holds a run is refused), "auto" (go on from its newest whole
    checkpoint; a finished run is not repeated, but gets the control that it has not) or
    a checkpoint's folder.

    Raises InterruptedRun, with the state saved, when SIGINT or SIGTERM arrives meanwhile.
    """
    progress = progress or NullProgress()
    folder, phases = RunFolder(Path(config.output.dir)), phases_of(config)
    folder.check(resume, phases)
    inputs = read_inputs(config, progress=progress)
    for text in warnings_of(inputs):
        warn(text)
    with folder.locked(), stop_at_step_end() as stop:
        folder.open(config, inputs.fingerprints(), resume=resume, phases=phases)
        explicit = None
        if resume not in (AUTO, NEVER):
            explicit = _explicit(Path(resume), folder, config)
        elif folder.report.exists():
            found = read_report(folder.report)
            if found.score(CONTROL) or not config.control:
                return found
        session = _Session(inputs, folder, progress, warn, stop, explicit)
        return session.report(phases)


def phases_of(config: DistillConfig) -> tuple[str, ...]:
    """The models that are trained one after the other."""
    return (STUDENT, CONTROL) if config.control else (STUDENT,)


def warnings_of(inputs: Inputs) -> list[str]:
    """What is worth knowing about `inputs` before they are trained on, in sentences."""
    skips, found = inputs.train.skips, list(inputs.train.warnings)
    if skips.count:
        found.append(f"{skips.count} documents are left out: {'; '.join(skips.problems[:1])}, …")
    found += [
        f"the vocabulary of the {each.name} is {each.vocabulary}"
        for each in inputs.teachers
        if each.vocabulary.kind == "permuted"
    ]
    training, dataset = inputs.config.training, inputs.config.dataset
    # after a first one, which nothing is learned from to write, and with the EOS of those with one
    cut = int((inputs.train.lengths - inputs.train.closed > dataset.max_length).sum())
    if cut and dataset.kind != "text":
        found.append(
            f"{cut} of {len(inputs.train)} documents are longer than max_length "
            f"{dataset.max_length}: what is in a later row is learned without what came before it"
        )
    if training.mixed_precision != "fp32":
        found.append(
            f"mixed_precision {training.mixed_precision}: the teacher's matrices are rounded to "
            f"{training.frozen_dtype} in memory; the student and all arithmetic are float32"
        )
    return found


def store_of(folder: RunFolder, phase: str, config: DistillConfig) -> CheckpointStore:
    """The checkpoints of a phase of the run in `folder`."""
    return CheckpointStore(
        folder.checkpoints(phase),
        run_id=folder.run_id,
        keep_last=config.output.keep_checkpoints,
        config_hash=config_hash(config),
    )


def _explicit(path: Path, folder: RunFolder, config: DistillConfig) -> Checkpoint:
    """The checkpoint to go back to. From here on the run is not finished, if it was."""
    found = store_of(folder, path.resolve().parent.name, config).open(path)
    if found.manifest.run_id != folder.run_id:
        raise CheckpointError(
            f"{path}: is a checkpoint of another run",
            hint=f"give one of the run in {folder.path}",
        )
    if folder.report.exists():
        files.remove_tree(folder.report)
    return found


class _Session:
    """What the phases of one run have in common."""

    def __init__(
        self,
        inputs: Inputs,
        folder: RunFolder,
        progress: Progress,
        warn: Callable[[str], None],
        stop: StopRequest,
        explicit: Checkpoint | None,
    ):
        self.inputs, self.folder, self.progress = inputs, folder, progress
        self.warn, self.stop, self.explicit = warn, stop, explicit

    def report(self, phases: tuple[str, ...]) -> RunReport:
        """Train the phases, export the student, measure all models and write the report."""
        inputs, folder = self.inputs, self.folder
        trained = teachers.named_models(inputs.teachers, inputs.routes)
        timings: dict[str, PhaseResult] = {}
        finished: dict[str, quantized.Finished] = {}
        for phase in phases:
            trained[phase] = inputs.new_student()
            trainer, timings[phase] = self._train(phase, trained[phase])
            if trainer.quantized is not None and trainer.evaluate is not None:
                training = inputs.config.training
                finished[phase] = quantized.finish(trainer.quantized, training, trainer.evaluate)
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
            models.load(folder.path) if whole else adapted.read_again(folder.path, inputs)
        )
        if changed is not None:
            trained[f"student in {changed}"] = models.load(folder.path / quantized.GGUF)
        found = measure.report(
            inputs,
            trained,
            timings,
            folder,
            self.progress,
            self.stop,
            quantization=student and student.record,
            adapter=adapter,
        )
        files.write_text(folder.path / "report.md", to_markdown(found))
        files.write_json(folder.report, to_json(found))
        return found

    def _objective(self, phase: str, model: Any) -> Objective:
        if phase == CONTROL:
            return LanguageModelling(model)
        inputs = self.inputs
        told_by = inputs.told_by()
        return objectives.objective(inputs.config, model, told_by, teacher=inputs.teacher)

    def _train(self, phase: str, model: Any) -> tuple[Trainer, PhaseResult]:
        config, inputs = self.inputs.config, self.inputs
        store = store_of(self.folder, phase, config)
        with store.lock():
            store.collect_garbage()
            trainer = Trainer(
                model,
                self._objective(phase, model),
                inputs.batches,
                config.training,
                phase=phase,
                metrics=self.folder.metrics,
                store=store,
                checkpoint_every=config.output.checkpoint_every,
                evaluate=lambda: held_out_loss(model, inputs, inputs.held_out),
            )
            self._restore(trainer)
            return trainer, trainer.fit(progress=self.progress, stop=self.stop)

    def _restore(self, trainer: Trainer) -> None:
        store, explicit = trainer.store, self.explicit
        if explicit and explicit.path.resolve().parent == store.folder.resolve():
            trainer.restore(explicit)
            store.discard_after(trainer.step)
            return
        trainer.resume()
        for text in store.warnings:
            self.warn(text)
        repeated = trainer.metrics.rewind(trainer.phase, trainer.step)
        if repeated:
            start = f"step {trainer.step}" if trainer.step else "its beginning: nothing was saved"
            self.warn(f"{trainer.phase} goes on from {start}; {repeated} steps are done again")


def held_out_loss(model: Any, inputs: Inputs, documents: TokenizedDocuments) -> float:
    """Nats per token of `model` on `documents`."""
    config = inputs.config
    scores = score(
        {"model": model},
        documents,
        seq_len=config.dataset.max_length,
        batch_size=config.training.batch_size,
        eos_id=inputs.tokenizer.eos_id or 0,
    )
    return scores["model"].loss
