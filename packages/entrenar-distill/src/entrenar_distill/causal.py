"""The task of a language model: text that goes on, learned token by token."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from entrenar_common.progress import Progress
from entrenar_core import models
from entrenar_core.data.documents import TokenizedDocuments
from entrenar_core.data.sources import Skips
from entrenar_core.train.config import TrainingConfig
from entrenar_core.train.evaluate import score
from entrenar_core.train.loop import PhaseResult
from entrenar_core.train.objective import LanguageModelling, Objective
from entrenar_core.train.precision_notes import precision_notes
from entrenar_core.train.process import StopRequest
from entrenar_core.train.rows import total_steps
from entrenar_core.train.stored_numbers import StoredNumbers
from entrenar_distill import measure, objectives, teachers
from entrenar_distill.config import DistillConfig
from entrenar_distill.inputs import Inputs, read_inputs
from entrenar_distill.plan import Plan
from entrenar_distill.report import AdaptedStudent, RunReport
from entrenar_distill.report_json import read_report
from entrenar_distill.run_folder import RunFolder
from entrenar_distill.task import CONTROL

__all__ = ["CausalLM", "held_out_loss", "left_out", "rounded"]


class CausalLM:
    """Predicting the next token: see `Task`."""

    def read_inputs(self, config: DistillConfig, *, progress: Progress) -> Inputs:
        return read_inputs(config, progress=progress)

    def plan(self, inputs: Inputs, *, phases: tuple[str, ...], done: dict[str, int]) -> Plan:
        config = inputs.config
        training, dataset = config.training, config.dataset
        rows = training.batch_size * training.gradient_accumulation
        return Plan(
            teacher=teachers.in_words(inputs.teachers),
            teacher_parameters=sum(each.model.parameter_count() for each in inputs.teachers),
            vocabulary=inputs.across.words
            if inputs.across
            else "; ".join(teachers.vocabularies(inputs.teachers)),
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
            rows=dataset.rows,
            loss=config.distillation.formula,
            loss_settings=config.distillation.settings(),
            quantization=inputs.quantization,
            recipe=config.recipe,
            features=inputs.features,
        )

    def warnings(self, inputs: Inputs) -> list[str]:
        found = [*inputs.train.warnings, *left_out(inputs.train.skips, "documents")]
        found += [
            f"the vocabulary of the {each.name} is {each.vocabulary}"
            for each in inputs.teachers
            if each.vocabulary.kind == "permuted"
        ]
        if inputs.across is not None:
            found.append(inputs.across.words)
        training, dataset = inputs.config.training, inputs.config.dataset
        # after a first one, which nothing is learned from to write, and with the EOS of those with
        # one
        cut = int((inputs.train.lengths - inputs.train.closed > dataset.max_length).sum())
        if cut and dataset.kind != "text":
            found.append(
                f"{cut} of {len(inputs.train)} documents are longer than max_length "
                f"{dataset.max_length}: what is in a later row is learned without what came before "
                "it"
            )
        return found + rounded(training)

    def named_teachers(self, inputs: Inputs) -> dict[str, Any]:
        return teachers.named_models(inputs.teachers, inputs.routes)

    def objective(self, inputs: Inputs, phase: str, model: Any) -> Objective:
        if phase == CONTROL:
            return LanguageModelling(model)
        if inputs.across is not None:
            return inputs.across.objective(model, inputs.teacher, inputs.config)
        told_by = inputs.told_by()
        return objectives.objective(inputs.config, model, told_by, teacher=inputs.teacher)

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
        quantization: StoredNumbers | None,
        adapter: AdaptedStudent | None,
    ) -> RunReport:
        del objectives
        return measure.report(
            inputs, trained, timings, folder, progress, stop,
            quantization=quantization, adapter=adapter,
        )  # fmt: skip

    def read_report(self, path: Path) -> RunReport:
        return read_report(path)


def left_out(skips: Skips, rows: str) -> list[str]:
    """What to say of `rows` that were left out."""
    if not skips.count:
        return []
    return [f"{skips.count} {rows} are left out: {'; '.join(skips.problems[:1])}, …"]


def rounded(training: TrainingConfig) -> list[str]:
    """What to say of numbers that are rounded."""
    return [
        f"{said}; the teacher's matrices are kept in {training.frozen_dtype}"
        for said in precision_notes(training)
    ]


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
