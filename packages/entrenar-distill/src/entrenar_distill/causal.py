"""The task of a language model: text that goes on, learned token by token."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from entrenar_common.progress import Progress
from entrenar_core import models
from entrenar_core.data.documents import TokenizedDocuments
from entrenar_core.distill import Distillation, FeatureDistillation, LiveTeacher
from entrenar_core.train.evaluate import score
from entrenar_core.train.loop import PhaseResult, total_steps
from entrenar_core.train.objective import LanguageModelling, Objective
from entrenar_core.train.process import StopRequest
from entrenar_distill import features, measure
from entrenar_distill.config import DistillConfig
from entrenar_distill.inputs import Inputs, read_inputs
from entrenar_distill.plan import Plan
from entrenar_distill.report import AdaptedStudent, QuantizedStudent, RunReport, read_report
from entrenar_distill.run_folder import RunFolder
from entrenar_distill.task import CONTROL

__all__ = ["CausalLM", "held_out_loss", "warnings_of"]


class CausalLM:
    """Predicting the next token: see `Task`."""

    def read_inputs(self, config: DistillConfig, *, progress: Progress) -> Inputs:
        return read_inputs(config, progress=progress)

    def plan(self, inputs: Inputs, *, phases: tuple[str, ...], done: dict[str, int]) -> Plan:
        config = inputs.config
        training, dataset = config.training, config.dataset
        rows = training.batch_size * training.gradient_accumulation
        return Plan(
            teacher=config.teacher.model_id,
            teacher_parameters=inputs.teacher.parameter_count(),
            student=measure.student_name(inputs),
            student_parameters=inputs.new_student().parameter_count(),
            training_documents=len(inputs.train),
            training_tokens=inputs.train.total_tokens,
            held_out_documents=len(inputs.held_out),
            held_out_tokens=inputs.held_out.total_tokens,
            tokens_per_step=rows * dataset.max_length,
            steps_per_epoch=inputs.batches.steps_per_epoch // training.gradient_accumulation,
            steps=total_steps(training, inputs.batches),
            phases=phases,
            done=done,
            output=config.output.dir,
            loss=config.distillation.formula,
            loss_settings=config.distillation.settings(),
            quantization=inputs.quantization,
            recipe=config.recipe,
            features=inputs.features,
        )

    def warnings(self, inputs: Inputs) -> list[str]:
        return [*inputs.train.warnings, *warnings_of(inputs, "documents")]

    def objective(self, inputs: Inputs, phase: str, model: Any) -> Objective:
        if phase == CONTROL:
            return LanguageModelling(model)
        config, teacher = inputs.config, inputs.teacher
        settings = config.distillation
        live = LiveTeacher(teacher, shared=inputs.shared)
        logits = Distillation(model, live, divergence=settings.divergence(), alpha=settings.alpha)
        inside = features.terms(settings, model, teacher, seed=config.training.seed)
        return FeatureDistillation(logits, live, inside) if inside else logits

    def held_out_loss(self, inputs: Inputs, model: Any, objective: Objective) -> float:
        del objective
        return held_out_loss(model, inputs, inputs.held_out)

    def load(self, inputs: Inputs, path: Path) -> Any:
        del inputs
        return models.load(path)

    def report(
        self,
        inputs: Inputs,
        trained: Mapping[str, Any],
        objectives: Mapping[str, Objective],
        timings: Mapping[str, PhaseResult],
        folder: RunFolder,
        progress: Progress,
        stop: StopRequest,
        *,
        quantization: QuantizedStudent | None,
        adapter: AdaptedStudent | None,
    ) -> RunReport:
        del objectives
        return measure.report(
            inputs, trained, timings, folder, progress, stop,
            quantization=quantization, adapter=adapter,
        )  # fmt: skip

    def read_report(self, path: Path) -> RunReport:
        return read_report(path)


def warnings_of(inputs: Any, rows: str) -> list[str]:
    """Of `rows` that were left out, and of weights that are rounded in memory."""
    skips, found = inputs.train.skips, list[str]()
    if skips.count:
        found.append(f"{skips.count} {rows} are left out: {'; '.join(skips.problems[:1])}, …")
    training = inputs.config.training
    if training.mixed_precision != "fp32":
        found.append(
            f"mixed_precision {training.mixed_precision}: the teacher's matrices are rounded to "
            f"{training.frozen_dtype} in memory; the student and all arithmetic are float32"
        )
    return found


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
