"""The task of classification: a class for each text, learned from a teacher and from labels."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from entrenar_common.errors import ConfigError, UnsupportedError
from entrenar_common.progress import Progress
from entrenar_core.data.class_numbers import class_numbers, listed
from entrenar_core.data.readers import Value
from entrenar_core.data.texts import Int64
from entrenar_core.distill import ClassificationDistillation, LabelClassification
from entrenar_core.distill.text_teacher import said_about
from entrenar_core.models.classes import labels_of
from entrenar_distill.class_figures import class_figures, log_softmax
from entrenar_distill.class_labels import single_labels
from entrenar_distill.config import DistillConfig
from entrenar_distill.intervals import Figure, IntervalMethod
from entrenar_distill.run_folder import RunFolder
from entrenar_distill.task import CONTROL
from entrenar_distill.text_inputs import TextInputs, read_text_inputs
from entrenar_distill.text_next_steps import classification_commands
from entrenar_distill.text_task import Measured, TextTask, reading_of
from entrenar_distill.verdicts import UNKNOWN, Measure, verdict_on

__all__ = ["SequenceClassification"]

_ACCURACY = Measure("points of accuracy", "held-out texts", scale=100, digits=2, falls=False)


class SequenceClassification(TextTask):
    """Classes as the teacher, and labels, say: see `Task`."""

    head = "sequence-classification"

    def read_inputs(self, config: DistillConfig, *, progress: Progress) -> TextInputs:
        if config.recipe is not None:
            raise UnsupportedError(
                "sequence-classification with a GGUF file: llama.cpp has no place for the head",
                hint="leave output.format and training.quantization.recipe out",
            )
        numbering = partial(_numbering, config)
        inputs = read_text_inputs(config, self.head, numbering=numbering, progress=progress)
        _check_top_k(config.distillation.top_k, len(labels_of(inputs.teacher)))
        return inputs

    def objective(self, inputs: TextInputs, phase: str, model: Any) -> Any:
        if phase == CONTROL:
            return LabelClassification(model)
        settings = inputs.config.distillation
        return ClassificationDistillation(
            reading_of(inputs, model), divergence=settings.divergence(), alpha=settings.alpha
        )

    def held_out_loss(self, inputs: TextInputs, model: Any, objective: Any) -> float:
        """Cross-entropy of the labels, and without labels KL(teacher ‖ model), per text."""
        del objective
        texts = inputs.held_out
        found = log_softmax(said_about(model, texts, inputs.fill))
        if texts.labels is not None:
            return float(-found[np.arange(len(texts)), texts.labels].mean())
        expected = log_softmax(inputs.told.of(np.arange(len(texts))))
        return float((np.exp(expected) * (expected - found)).sum(axis=1).mean())

    def formula(self, inputs: TextInputs) -> str:
        loss = inputs.config.distillation
        return loss.with_features(f"{loss.mixture}, per text")

    def loss_settings(self, inputs: TextInputs) -> dict[str, float]:
        return inputs.config.distillation.settings()

    def settings(self, inputs: TextInputs) -> dict[str, str]:
        return {
            "classes": listed(labels_of(inputs.teacher)),
            "longest text": f"{inputs.max_length} ids",
        }

    def measured(
        self, inputs: TextInputs, said: Mapping[str, np.ndarray], objectives: Mapping[str, Any]
    ) -> Measured:
        del objectives
        labels = inputs.held_out.labels
        found = class_figures(said, labels, seed=inputs.config.training.seed)
        difference = found.of_labels("student")
        verdict = _verdict(found.models["student"], difference, found.how)
        notes = []
        if difference is not None:
            teacher, control = (found.models[name]["accuracy"] for name in ("teacher", CONTROL))
            if teacher and control and not teacher.value > control.value:
                notes.append("The teacher is no better than the control: it has nothing to teach.")
        return Measured(found.models, found.how, verdict, difference, tuple(notes))

    def next_commands(self, inputs: TextInputs, folder: RunFolder, whole: bool) -> tuple[str, ...]:
        return classification_commands(folder, inputs, whole=whole)


def _numbering(config: DistillConfig, teacher: Any) -> Callable[[Sequence[Value]], Int64] | None:
    labels = single_labels(teacher, "the teacher")
    field = config.dataset.label_field
    if field is None:
        return None
    where = f"dataset.label_field {field!a}"
    return partial(class_numbers, labels=labels, where=where, owner="the teacher")


def _check_top_k(top_k: int | None, classes: int) -> None:
    if top_k is not None and top_k > classes:
        raise ConfigError(
            f"distillation.top_k {top_k} is more than the {classes} classes",
            hint="lower distillation.top_k, or leave it out to count every class",
        )


def _verdict(
    student: Mapping[str, Figure | None], difference: Mapping[str, Figure] | None,
    how: IntervalMethod,
) -> str:  # fmt: skip
    """What the run shows about distillation, in one sentence that claims no more than it can."""
    if difference is None:
        agreement = student["agreement"]
        assert agreement is not None
        return (
            f"The student's class is the teacher's for {agreement.value:.1%} of the held-out "
            f"texts. {UNKNOWN}"
        )
    found = difference["accuracy"]
    return verdict_on(
        _ACCURACY, found.value, found.low, found.high, confidence=how.confidence, count=how.count
    )
