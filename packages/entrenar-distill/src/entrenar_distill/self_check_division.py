"""How rows are divided and padded changes nothing that is learned from them."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from entrenar_core.autograd import no_grad
from entrenar_core.testing import difference
from entrenar_distill.check import Check
from entrenar_distill.self_check_gradient import apart, step_of, trained
from entrenar_distill.self_check_subject import PADDING, Subject, padded, uneven

_BOUNDS = 1e-9, 2e-4
"""In float64, and in float32, where sums in another order differ by more."""


def accumulation(subject: Subject) -> Iterator[Check]:
    """One micro-batch of N rows, N of one and two of N/2 have one loss and gradient, though they
    have labels in unequal numbers."""
    batch = uneven(subject.batch)
    rows = len(batch.ids)
    title = "gradient of rows in several micro-batches"
    if rows < 2:
        yield Check.skipped("accumulation", title, "there is only one row")
        return
    objective = subject.whole()
    parameters = trained(subject.student, objective)
    whole = step_of(objective, parameters, [batch], step=subject.step)
    for parts in sorted({2, rows}):
        found = step_of(objective, parameters, batch.split(parts), step=subject.step)
        note = f"relative difference of {parts}×{rows // parts} rows from 1×{rows}"
        bound = subject.bound(*_BOUNDS)
        yield Check.measured(f"accumulation_{parts}", title, apart(found, whole), bound, note)


def padding(subject: Subject, *, fill: int = 0) -> Iterator[Check]:
    """Positions without a label behind a row change neither loss nor gradient; positions before it
    that the mask leaves out do not change what the models say about the others."""
    objective = subject.whole()
    parameters = trained(subject.student, objective)
    plain = step_of(objective, parameters, [subject.batch], step=subject.step)
    longer = padded(subject.batch, PADDING, fill)
    found = step_of(objective, parameters, [longer], step=subject.step)
    title = f"{PADDING} positions of padding at the right"
    note = "relative difference of loss and gradient"
    bound = subject.bound(*_BOUNDS)
    yield Check.measured("padding_right", title, apart(found, plain), bound, note)
    title = f"{PADDING} positions of padding at the left"
    worst = max(_left(model, subject.batch.ids, fill) for model in subject.models)
    note = "relative difference of hidden states of all models, with a mask"
    yield Check.measured("padding_left", title, worst, bound, note)


def _left(model: Any, ids: np.ndarray, fill: int) -> float:
    batch, time = ids.shape
    longer = np.pad(ids, ((0, 0), (PADDING, 0)), constant_values=fill)
    mask = np.pad(np.ones((batch, time), int), ((0, 0), (PADDING, 0)))
    positions = np.maximum(np.arange(time + PADDING) - PADDING, 0)
    with no_grad():
        plain = model.hidden(ids).data
        found = model.hidden(longer, mask, positions=np.broadcast_to(positions, longer.shape)).data
    return difference(found[:, PADDING:], plain)
