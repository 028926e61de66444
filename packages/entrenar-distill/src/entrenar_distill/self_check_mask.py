"""What has no label contributes nothing, and what has one does."""

from collections.abc import Iterator

import numpy as np

from entrenar_core.data.batches import IGNORED, Batch
from entrenar_distill.check import Check
from entrenar_distill.self_check_gradient import apart, step_of
from entrenar_distill.self_check_slope import HiddenStates, hidden_of
from entrenar_distill.self_check_subject import Subject, labelled

POISON = 1e3
"""What hidden states are multiplied by where they must not matter."""


def mask(subject: Subject) -> Iterator[Check]:
    """With hidden states poisoned where there is no label, loss and gradients are the same; and
    the positions that the gradient reaches are those with a label."""
    holed = labelled(subject.batch, _holes(subject.batch))
    batch = holed if holed.targets else subject.batch
    ignored = batch.labels == IGNORED
    states, weight = hidden_of(subject)
    steps = []
    for factor in (1.0, POISON):
        head = HiddenStates(np.where(ignored[..., None], factor * states, states), weight)
        objective = subject.logits(head, subject.teachers)
        values = {"hidden": head.states, "weight": head.output_weight}
        steps.append(step_of(objective, values, [batch], step=subject.step))
    title = "poisoned states without a label"
    note = f"relative difference of loss and gradient, {int(ignored.sum())} of {ignored.size}"
    yield Check.measured("mask_poison", title, apart(steps[1], steps[0]), 1e-12, note)
    reached = np.abs(steps[0].gradients["hidden"]).max(axis=-1) > 0
    wrong = int(np.count_nonzero(reached != ~ignored))
    title = "positions learned from that are not the labelled"
    note = f"of {ignored.size}, by the gradient"
    yield Check.measured("mask_reach", title, wrong, 0, note)


def _holes(batch: Batch) -> np.ndarray:
    """Booleans (B, T): places that keep their label, with some left out at the beginning, in the
    middle and at the end of rows."""
    time = batch.ids.shape[1]
    place = np.arange(time)
    kept = (place >= time // 8) & (place < time - time // 8) & (place % 5 != 2)
    return np.broadcast_to(kept, batch.ids.shape)
