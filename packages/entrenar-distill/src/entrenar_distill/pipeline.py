"""A distillation from start to report: train the student, train the control, measure, export."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from entrenar_common.errors import CheckpointError
from entrenar_common.progress import NullProgress, Progress
from entrenar_core import models
from entrenar_core.data.documents import TokenizedDocuments
from entrenar_core.distill import Distillation
from entrenar_core.io import files
from entrenar_core.train.checkpoint import CheckpointStore
from entrenar_core.train.evaluate import score
from entrenar_core.train.loop import PhaseResult, Trainer, total_steps
from entrenar_core.train.objective import LanguageModelling, Objective
from entrenar_core.train.process import StopRequest, stop_at_step_end
from entrenar_distill import measure
from entrenar_distill.config import DistillConfig, config_hash
from entrenar_distill.inputs import Inputs, read_inputs
from entrenar_distill.present import to_markdown
from entrenar_distill.report import RunReport, read_report, to_json
from entrenar_distill.run_folder import RunFolder

STUDENT, CONTROL = "student", "control"


@dataclass(frozen=True)
class Plan:
    """What a run would do, for `--dry-run`."""

    teacher: str
    teacher_parameters: int
    student_parameters: int
    training_documents: int
    training_tokens: int
    held_out_documents: int
    rows_per_epoch: int
    tokens_per_step: int
    steps: int
    phases: tuple[str, ...]
    output: str


def plan(config: DistillConfig, *, progress: Progress | None = None) -> Plan:
    """Read and check everything that `run` would, and write nothing but the token cache."""
    inputs = read_inputs(config, progress=progress or NullProgress())
    training, dataset = config.training, config.dataset
    return Plan(
        teacher=config.teacher.model_id,
        teacher_parameters=inputs.teacher.parameter_count(),
        student_parameters=inputs.new_student().parameter_count(),
        training_documents=len(inputs.train),
        training_tokens=inputs.train.total_tokens,
        held_out_documents=len(inputs.held_out),
        rows_per_epoch=inputs.batches.rows,
        tokens_per_step=training.batch_size * training.gradient_accumulation * dataset.max_length,
        steps=total_steps(training, inputs.batches),
        phases=(STUDENT, CONTROL) if config.control else (STUDENT,),
        output=config.output.dir,
    )


def run(
    config: DistillConfig,
    *,
    resume: str = "never",
    progress: Progress | None = None,
    warn: Callable[[str], None] = lambda _text: None,
) -> RunReport:
    """Distil as `config` says; returns the report that is also in the output folder.

    `resume`: "never" (a folder that holds a run is refused), "auto" (go on from its newest whole
    checkpoint; a finished run is not repeated) or a checkpoint's folder.

    Raises InterruptedRun, with the state saved, when SIGINT or SIGTERM arrives meanwhile.
    """
    progress = progress or NullProgress()
    folder = RunFolder(Path(config.output.dir))
    inputs = read_inputs(config, progress=progress)
    for text in inputs.train.warnings:
        warn(text)
    with folder.locked(), stop_at_step_end() as stop:
        folder.open(config, inputs.fingerprint(), resume=resume != "never")
        if resume == "auto" and folder.report.exists():
            return read_report(folder.report)
        session = _Session(inputs, folder, progress, warn, stop)
        explicit = None if resume in ("auto", "never") else Path(resume)
        session.check_explicit(explicit)
        student, timings = inputs.new_student(), {}
        distillation = Distillation(
            student,
            inputs.teacher,
            temperature=config.distillation.temperature,
            alpha=config.distillation.alpha,
            shared=inputs.shared,
        )
        timings[STUDENT] = session.train(STUDENT, student, distillation, explicit)
        trained = {"teacher": inputs.teacher, STUDENT: student}
        if config.control:
            control = inputs.new_student()
            objective = LanguageModelling(control)
            timings[CONTROL] = session.train(CONTROL, control, objective, explicit)
            trained[CONTROL] = control
        _export(student, inputs, folder.path)
        trained[STUDENT] = models.load(folder.path)  # what was written is what is measured
        report = measure.report(inputs, trained, timings, folder, progress)
        files.write_text(folder.path / "report.md", to_markdown(report))
        files.write_json(folder.report, to_json(report))
    return report


class _Session:
    """What the phases of one run have in common."""

    def __init__(
        self,
        inputs: Inputs,
        folder: RunFolder,
        progress: Progress,
        warn: Callable[[str], None],
        stop: StopRequest,
    ):
        self.inputs, self.folder, self.progress = inputs, folder, progress
        self.warn, self.stop = warn, stop

    def check_explicit(self, checkpoint: Path | None) -> None:
        """A checkpoint given by name must be one of this run's."""
        if checkpoint is None:
            return
        phases = {self.folder.checkpoints(phase).resolve() for phase in (STUDENT, CONTROL)}
        if checkpoint.resolve().parent not in phases:
            raise CheckpointError(
                f"{checkpoint}: is no checkpoint of the run in {self.folder.path}",
                hint=f"they are in {self.folder.checkpoints(STUDENT)}",
            )

    def train(
        self, phase: str, model: Any, objective: Objective, explicit: Path | None
    ) -> PhaseResult:
        config, inputs = self.inputs.config, self.inputs
        store = CheckpointStore(
            self.folder.checkpoints(phase),
            run_id=self.folder.run_id,
            keep_last=config.output.keep_checkpoints,
            config_hash=config_hash(config),
        )
        with store.lock():
            store.collect_garbage()
            trainer = Trainer(
                model,
                objective,
                inputs.batches,
                config.training,
                phase=phase,
                metrics=self.folder.metrics,
                store=store,
                checkpoint_every=config.output.checkpoint_every,
                evaluate=lambda: held_out_loss(model, inputs, inputs.held_out),
            )
            if explicit and explicit.resolve().parent == store.folder.resolve():
                trainer.restore(store.open(explicit))
                store.discard_after(trainer.step)
            else:
                trainer.resume()
            for text in store.warnings:
                self.warn(text)
            return trainer.fit(progress=self.progress, stop=self.stop)


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


def _export(student: Any, inputs: Inputs, folder: Path) -> None:
    """The Hugging Face folder: weights, configs and tokenizer."""
    models.save(student, folder)
    inputs.tokenizer.save(folder)
