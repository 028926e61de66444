"""The self-check of a configuration: its own models, rows and loss."""

from dataclasses import replace
from typing import Any

from entrenar_common.progress import Progress
from entrenar_core.data.batches import Batch
from entrenar_core.distill import Teacher
from entrenar_core.train.objective import Objective
from entrenar_distill import features, objectives
from entrenar_distill.check import Check
from entrenar_distill.inputs import Inputs
from entrenar_distill.self_check import self_check
from entrenar_distill.self_check_causality import labels
from entrenar_distill.self_check_packing import packing
from entrenar_distill.self_check_subject import (
    FLOAT64_PARAMETERS,
    PADDING,
    ROWS,
    TOKENS,
    Subject,
    first_rows,
    in_float64,
)
from entrenar_distill.teachers import teacher_of

KINKED = ("tvd",)
"""Divergences without a derivative where two probabilities are equal."""

_BATCHES = 8
"""The batches of which it is counted what stands behind other documents."""


def check_inputs(inputs: Inputs, *, progress: Progress | None = None) -> list[Check]:
    """Every check of the loss of `inputs` on its first rows, then those of the rows themselves, and
    what could not be checked."""
    found = self_check(subject_of(inputs), progress=progress)
    batches, steps = inputs.batches, min(_BATCHES, inputs.batches.steps_per_epoch)
    found.append(labels(batches.batch(0), inputs.train, inputs.tokenizer.eos_id))
    found.append(packing([batches.batch(i) for i in range(steps)]))
    return found + list(_left_out(inputs))


def subject_of(inputs: Inputs) -> Subject:
    """The run's student before its first step, its teachers, and the first rows that they read; in
    float64 where all are small enough."""
    config, loaded, student = inputs.config, inputs.teachers, inputs.new_student()
    models = [each.model for each in loaded]
    if sum(model.parameter_count() for model in (*models, student)) <= FLOAT64_PARAMETERS:
        models, student = [in_float64(model) for model in models], in_float64(student)
    places = {id(model): number for number, model in enumerate(models)}

    def told_by(teachers: tuple[Any, ...]) -> Teacher:
        chosen = [replace(loaded[places[id(model)]], model=model) for model in teachers]
        routes = inputs.routes if len(chosen) == len(loaded) else None
        return teacher_of(chosen, routes, inputs.train)

    def whole(learner: Any, teachers: tuple[Any, ...]) -> Objective:
        return objectives.objective(config, learner, told_by(teachers), teacher=teachers[0])

    def logits(learner: Any, teachers: tuple[Any, ...]) -> Objective:
        return objectives.predictions(config, learner, told_by(teachers))

    limits = [m.config.max_position_embeddings for m in (*models, student)]
    return Subject(
        student, tuple(models), whole, logits, _rows(inputs, limits),
        step=_step(inputs), smooth=config.distillation.loss not in KINKED,
    )  # fmt: skip


def _rows(inputs: Inputs, limits: list[int]) -> Batch:
    """Rows that have room for padding in models of so many positions."""
    tokens = max(1, min(TOKENS, *(limit - PADDING for limit in limits)))
    batches = inputs.batches
    rows = batches.steps_per_epoch * batches.batch_size
    return first_rows(batches.batch, rows, count=ROWS, tokens=tokens)


def _step(inputs: Inputs) -> int:
    """The optimizer step at which the most of what is learned from inside the teacher takes part
    in full."""
    settings = inputs.config.distillation
    found = features.terms(
        settings, inputs.new_student(), inputs.teacher, seed=inputs.config.training.seed
    )
    schedules = [pair.schedule for term in found for pair in term.pairs]
    starts = {0, *(s.from_step + max(0, s.ramp_steps - 1) for s in schedules)}
    return max(sorted(starts), key=lambda step: sum(s.factor(step) for s in schedules))


def _left_out(inputs: Inputs) -> list[Check]:
    """What the configuration uses and no check can see."""
    found = []
    config = inputs.config
    if config.training.quantization is not None:
        why = "the gradient passes straight through rounding, and is not that of what is computed"
        found.append(Check.skipped("stored_weights", "training on stored weights", why))
    if inputs.cache is not None:
        why = "the loss was tried with the teacher itself, not with what is cached of it"
        found.append(Check.skipped("cache", "cached predictions", why))
    shape = inputs.new_student().config
    drops = [name for name in vars(shape) if "drop" in name and getattr(shape, name)]
    if drops:
        why = f"{', '.join(drops)}: all was checked without"
        found.append(Check.skipped("dropout", "dropout", why))
    return found
