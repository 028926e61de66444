"""A teacher that learns from itself has nothing to learn."""

import copy
from collections.abc import Iterator

import numpy as np

from entrenar_core.data.batches import IGNORED, Batch
from entrenar_core.train.objective import Objective
from entrenar_distill.check import Check
from entrenar_distill.self_check_subject import Subject, labelled

BOUND = 1e-6
"""Nats for each token."""


def match(subject: Subject) -> Iterator[Check]:
    """With the teacher as the student the divergence is 0: in the mean, at every position, and at
    the first one of each row that has a label; and their likeliest ids are the same.

    A divergence is nowhere negative, so that none of its values is larger than their sum.
    """
    teacher = copy.copy(subject.teacher)
    objective = subject.logits(teacher, subject.teacher)
    batch = subject.batch
    names = (
        ("self_divergence", "divergence of the teacher from itself"),
        ("self_agreement", "tokens in which it does not agree with itself"),
        ("self_everywhere", "that divergence at any one position"),
        ("self_first", "that divergence at the first label of a row"),
    )
    parts = _parts(objective, batch, subject.step)
    if not {"divergence", "agreement"} <= parts.keys():
        why = "the loss does not say its divergence and agreement"
        yield from (Check.skipped(name, title, why) for name, title in names)
        return
    first = labelled(batch, _first(batch))
    begun = _parts(objective, first, subject.step)["divergence"]
    found = (
        (abs(parts["divergence"]), f"mean over {batch.targets} tokens"),
        (1 - parts["agreement"], f"share of {batch.targets} tokens"),
        (abs(parts["divergence"]) * batch.targets, "no single value is above their sum"),
        (abs(begun) * first.targets, f"sum over {first.targets} rows"),
    )
    for (name, title), (value, note) in zip(names, found, strict=True):
        yield Check.measured(name, title, value, BOUND, note)


def _parts(objective: Objective, batch: Batch, step: int) -> dict[str, float]:
    objective.begin(step, [batch])
    objective.loss(batch, max(1, batch.targets))
    return objective.parts()


def _first(batch: Batch) -> np.ndarray:
    """Booleans (B, T): the first position of each row that has a label."""
    valid = batch.labels != IGNORED
    return valid & (np.cumsum(valid, axis=1) == 1)
