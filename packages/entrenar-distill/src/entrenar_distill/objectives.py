"""What a student of a configuration minimises."""

from typing import Any

from entrenar_core.distill import Distillation, FeatureDistillation, LiveTeacher, Teacher
from entrenar_core.models.reading import CAUSAL, Reading
from entrenar_core.train.objective import Objective
from entrenar_distill import features
from entrenar_distill.config import DistillConfig


def predictions(
    config: DistillConfig, student: Any, told_by: Teacher, *, reading: Reading = CAUSAL
) -> Distillation:
    """The part of the loss about what `told_by` predicts."""
    settings = config.distillation
    return Distillation(
        student, told_by, divergence=settings.divergence(), alpha=settings.alpha, reading=reading
    )


def objective(
    config: DistillConfig,
    student: Any,
    told_by: Teacher,
    *,
    teacher: Any,
    reading: Reading = CAUSAL,
) -> Objective:
    """The whole of it, with what is learned from inside the model `teacher`."""
    logits = predictions(config, student, told_by, reading=reading)
    inside = features.terms(config.distillation, student, teacher, seed=config.training.seed)
    if not inside:
        return logits
    assert isinstance(told_by, LiveTeacher)  # the config has it that there is one only
    return FeatureDistillation(logits, told_by, inside)
