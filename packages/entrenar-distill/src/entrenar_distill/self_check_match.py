"""A teacher that learns from itself has nothing to learn."""

import copy
from collections.abc import Iterable, Iterator

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
    batch = subject.batch
    alone = [subject.logits(copy.copy(teacher), (teacher,)) for teacher in subject.teachers]
    names = (
        ("self_divergence", "divergence of a teacher from itself"),
        ("self_agreement", "tokens in which it does not agree with itself"),
        ("self_everywhere", "that divergence at any one position"),
        ("self_first", "that divergence at the first label of a row"),
    )
    every = [_parts(objective, batch, subject.step) for objective in alone]
    if not all({"divergence", "agreement"} <= parts.keys() for parts in every):
        why = "the loss does not say its divergence and agreement"
        yield from (Check.skipped(name, title, why) for name, title in names)
        return
    first = labelled(batch, _first(batch))
    begun = _worst(_parts(one, first, subject.step)["divergence"] for one in alone)
    mean = _worst(parts["divergence"] for parts in every)
    found = (
        (mean, f"mean over {batch.targets} tokens"),
        (_worst(1 - parts["agreement"] for parts in every), f"share of {batch.targets} tokens"),
        (mean * batch.targets, "no single value is above their sum"),
        (begun * first.targets, f"sum over {first.targets} rows"),
    )
    for (name, title), (value, note) in zip(names, found, strict=True):
        yield Check.measured(name, title, value, BOUND, note)


def _worst(values: Iterable[float]) -> float:
    """The largest of some numbers without their signs, NaN where one is."""
    return float(np.abs(list(values)).max())


def _parts(objective: Objective, batch: Batch, step: int) -> dict[str, float]:
    objective.begin(step, [batch])
    objective.loss(batch, max(1, batch.targets))
    return objective.parts()


def _first(batch: Batch) -> np.ndarray:
    """Booleans (B, T): the first position of each row that has a label."""
    valid = batch.labels != IGNORED
    return valid & (np.cumsum(valid, axis=1) == 1)
