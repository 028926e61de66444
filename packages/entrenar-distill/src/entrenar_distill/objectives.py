"""What a student of a configuration minimises."""

from typing import Any

from entrenar_core.distill import Distillation, FeatureDistillation, LiveTeacher
from entrenar_core.train.objective import Objective
from entrenar_distill import features
from entrenar_distill.config import DistillConfig


def predictions(config: DistillConfig, student: Any, teacher: Any, *, shared: int) -> Distillation:
    """The part of the loss about predictions: of `teacher`, whose first `shared` ids are the
    student's."""
    settings = config.distillation
    live = LiveTeacher(teacher, shared=shared)
    return Distillation(student, live, divergence=settings.divergence(), alpha=settings.alpha)


def objective(config: DistillConfig, student: Any, teacher: Any, *, shared: int) -> Objective:
    """The whole of it, with what is learned from inside the teacher."""
    logits = predictions(config, student, teacher, shared=shared)
    inside = features.terms(config.distillation, student, teacher, seed=config.training.seed)
    live = LiveTeacher(teacher, shared=shared)
    return FeatureDistillation(logits, live, inside) if inside else logits
