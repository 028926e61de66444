"""What the tasks about whole texts have in common."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from entrenar_common.progress import Progress
from entrenar_core import models
from entrenar_core.distill import KeptTextTeacher, LiveTextTeacher, TextReading, TextTeacher
from entrenar_core.environment import environment
from entrenar_core.train.loop import PhaseResult
from entrenar_core.train.objective import Objective
from entrenar_core.train.process import StopRequest
from entrenar_core.train.rows import total_steps
from entrenar_core.train.stored_numbers import StoredNumbers
from entrenar_distill import features, measure
from entrenar_distill.causal import left_out, rounded
from entrenar_distill.config import DistillConfig
from entrenar_distill.intervals import Figure, IntervalMethod
from entrenar_distill.plan import Plan
from entrenar_distill.report import AdaptedStudent
from entrenar_distill.reproduction import reproduction
from entrenar_distill.run_folder import RunFolder
from entrenar_distill.text_inputs import TextInputs
from entrenar_distill.text_outputs import read_all
from entrenar_distill.text_report import TextReport, TextScore, read_text_report

__all__ = ["FiguresTask", "Measured", "TextTask", "reading_of"]


@dataclass(frozen=True)
class Measured:
    """What the figures say: of each model by name, the difference of student and control, and what
    follows from them in words."""

    figures: Mapping[str, Mapping[str, Figure | None]]
    intervals: IntervalMethod
    verdict: str
    difference: dict[str, Figure] | None = None
    notes: tuple[str, ...] = ()


class FiguresTask(ABC):
    """A task whose report has figures of each model by name: see `Task`. Subclasses say what is
    learned, and what measured."""

    head: str
    """What the models are for, in the words of `models.load`."""
    normaliser: str
    """What the loss is divided by, in words."""

    @abstractmethod
    def read_inputs(self, config: DistillConfig, *, progress: Progress) -> Any:
        """Load what `config` names, and check it."""

    @abstractmethod
    def objective(self, inputs: Any, phase: str, model: Any) -> Any:
        """What `model` is trained towards in this phase."""

    @abstractmethod
    def held_out_loss(self, inputs: Any, model: Any, objective: Any) -> float:
        """The loss of `model` on what was held out."""

    @abstractmethod
    def formula(self, inputs: Any) -> str:
        """What is minimised, in ASCII."""

    @abstractmethod
    def loss_settings(self, inputs: Any) -> dict[str, float]:
        """The numbers in the formula."""

    @abstractmethod
    def settings(self, inputs: Any) -> dict[str, str]:
        """What else decides how texts are read, in words."""

    @abstractmethod
    def warnings(self, inputs: Any) -> list[str]:
        """What a user should know of the inputs before the run."""

    @abstractmethod
    def measure(
        self,
        inputs: Any,
        every: Mapping[str, Any],
        objectives: Mapping[str, Any],
        progress: Progress,
        stop: StopRequest,
    ) -> tuple[Measured, dict[str, float]]:
        """The figures of the models `every`, the teacher first, and how many of the held-out texts
        each of them reads in a second. Raises InterruptedRun when `stop` is set meanwhile."""

    @abstractmethod
    def next_commands(self, inputs: Any, folder: RunFolder, whole: bool) -> tuple[str, ...]:
        """What can be done with the student in `folder`, which is `whole` or only an adapter."""

    def shortened(self, inputs: Any) -> int:
        """How many of the training texts are cut, and read in part."""
        del inputs
        return 0

    def besides(self, inputs: Any) -> dict[str, Any]:
        """Further models to measure, by name, which are made for it."""
        del inputs
        return {}

    def plan(self, inputs: Any, *, phases: tuple[str, ...], done: dict[str, int]) -> Plan:
        config, training = inputs.config, inputs.config.training
        return Plan(
            teacher=config.teachers[0].model_id,
            teacher_parameters=inputs.teacher.parameter_count(),
            student=measure.student_name(inputs),
            student_parameters=inputs.student_parameters,
            training_documents=len(inputs.train),
            training_tokens=inputs.train.total_tokens,
            held_out_documents=len(inputs.held_out),
            held_out_tokens=inputs.held_out.total_tokens,
            tokens_per_step=None,
            texts_per_step=training.batch_size * training.gradient_accumulation,
            steps_per_epoch=inputs.batches.steps_per_epoch // training.gradient_accumulation,
            steps=total_steps(training, inputs.batches),
            phases=phases,
            done=done,
            output=config.output.dir,
            loss=self.formula(inputs),
            loss_settings=self.loss_settings(inputs),
            normaliser=self.normaliser,
            quantization=inputs.quantization,
            recipe=config.recipe,
            features=inputs.features,
            task=config.task,
            unit="text",
            rows=None,
            vocabulary=None,
            task_settings={"task": config.task, **self.settings(inputs)},
        )

    def named_teachers(self, inputs: Any) -> dict[str, Any]:
        return {"teacher": inputs.teacher}

    def load(self, inputs: Any, path: Path) -> Any:
        del inputs
        return models.load(path, head=self.head)

    def report(
        self,
        inputs: Any,
        trained: Mapping[str, Any],
        objectives: Mapping[str, Objective],
        timings: Mapping[str, PhaseResult],
        folder: RunFolder,
        progress: Progress,
        stop: StopRequest,
        *,
        quantization: StoredNumbers | None,
        adapter: AdaptedStudent | None,
    ) -> TextReport:
        config = inputs.config
        every = {**trained, **self.besides(inputs)}
        found, speeds = self.measure(inputs, every, objectives, progress, stop)
        numbers = {k: f"{v:g}" for k, v in self.loss_settings(inputs).items()}
        inside = features.terms(
            config.distillation, trained["student"], inputs.teacher, seed=config.training.seed
        )
        return TextReport(
            task=config.task,
            teacher=config.teachers[0].model_id,
            student=measure.student_name(inputs),
            formula=self.formula(inputs),
            normaliser=self.normaliser,
            settings={**self.settings(inputs), **numbers},
            steps=timings["student"].steps,
            seed=config.training.seed,
            training_texts=len(inputs.train),
            shortened_texts=self.shortened(inputs),
            scores=tuple(
                TextScore(name, model.parameter_count(), dict(found.figures[name]), speeds[name])
                for name, model in every.items()
            ),
            intervals=found.intervals,
            verdict=found.verdict,
            phases=tuple(measure.timing(name, result) for name, result in timings.items()),
            environment=environment(),
            difference=found.difference,
            notes=(*found.notes, *_caveats(timings)),
            curve={name: measure.curve(folder.metrics.records(name)) for name in timings},
            parts=measure.parts(folder.metrics.records("student")) or None,
            files=measure.files_of(folder),
            skipped_steps=sum(result.skipped for result in timings.values()),
            quantization=quantization,
            adapter=adapter,
            features=features.taught(inside, folder.metrics.records("student")),
            reproduction=reproduction(config, folder),
            next_commands=self.next_commands(
                inputs, folder, whole=adapter is None or adapter.fused
            ),
        )

    def read_report(self, path: Path) -> TextReport:
        return read_text_report(path)


class TextTask(FiguresTask):
    """A task about whole texts, of each of which a model says one thing."""

    normaliser = "per text of the whole optimizer step"

    @abstractmethod
    def measured(
        self, inputs: TextInputs, said: Mapping[str, np.ndarray], objectives: Mapping[str, Any]
    ) -> Measured:
        """The figures, of what each model says about the held-out texts, (texts, D) each."""

    def shortened(self, inputs: TextInputs) -> int:
        return int(inputs.train.shortened.sum())

    def warnings(self, inputs: TextInputs) -> list[str]:
        found = left_out(inputs.train.skips, "texts") + rounded(inputs.config.training)
        count = self.shortened(inputs)
        if count:
            found.append(
                f"{count} of {len(inputs.train)} training texts are cut to {inputs.max_length} ids"
            )
        return found

    def measure(
        self,
        inputs: TextInputs,
        every: Mapping[str, Any],
        objectives: Mapping[str, Any],
        progress: Progress,
        stop: StopRequest,
    ) -> tuple[Measured, dict[str, float]]:
        said, speeds = _said(every, inputs, progress, stop)
        return self.measured(inputs, said, objectives), speeds


def reading_of(inputs: TextInputs, model: Any) -> TextReading:
    """The student `model` beside the teacher, with the terms about what is inside it.

    Where texts come again and only the teacher's output counts, it reads each of them once.
    """
    config = inputs.config
    terms = features.terms(config.distillation, model, inputs.teacher, seed=config.training.seed)
    teacher: TextTeacher = LiveTextTeacher(inputs.teacher)
    if not terms and inputs.several_epochs:
        teacher = KeptTextTeacher(inputs.teacher, inputs.train, fill=inputs.fill)
    return TextReading(model, teacher, terms)


def _said(
    every: Mapping[str, Any], inputs: TextInputs, progress: Progress, stop: StopRequest
) -> tuple[dict[str, np.ndarray], dict[str, float]]:
    """What each model says about the held-out texts, and how many of them a second."""
    texts, said, speeds = inputs.held_out, dict[str, np.ndarray](), dict[str, float]()
    progress.start("evaluate", len(texts) * len(every))
    for name, model in every.items():
        said[name], speeds[name] = read_all(
            model, texts, inputs.fill, progress=progress,
            between=lambda: stop.check("measuring the models"),
        )  # fmt: skip
    progress.finish()
    return said, speeds


def _caveats(timings: Mapping[str, PhaseResult]) -> Sequence[str]:
    skipped = sum(result.skipped for result in timings.values())
    if not skipped:
        return ()
    return (f"{skipped} optimizer steps were skipped: loss or gradient not finite.",)
