"""Two models, what one learns from the other, and the rows that a self-check tries it on."""

import copy
import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from entrenar_core.autograd import Parameter, no_grad
from entrenar_core.data.batches import IGNORED, Batch
from entrenar_core.train.objective import Objective

ROWS, TOKENS, PADDING = 4, 64, 3
"""The rows that are tried, their tokens at most, and the positions that padding adds."""

_LOOKED_AT = 32
"""Rows from which those that are tried are chosen."""

FLOAT64_PARAMETERS = 50_000_000
"""Models of no more numbers are copied in float64, which takes eight bytes for each."""

ObjectiveFactory = Callable[[Any, tuple[Any, ...]], Objective]
"""`factory(student, teachers)`: what the student minimises that learns from these models."""


@dataclass(frozen=True)
class Subject:
    """What a self-check looks at.

    objective: makes the whole loss; logits: makes its part about predictions, which asks a student
    for nothing but `hidden(ids)` and `output_weight`, and can be made with one of the teachers
    alone; batch: some rows; step: the optimizer step that the loss is taken at; smooth: whether the
    loss has a derivative everywhere; double: whether the models are in float64.
    """

    student: Any
    teachers: tuple[Any, ...]
    objective: ObjectiveFactory
    logits: ObjectiveFactory
    batch: Batch
    step: int = 0
    smooth: bool = True

    @property
    def double(self) -> bool:
        return self.student.dtype == np.float64

    @property
    def models(self) -> tuple[Any, ...]:
        """The student and the teachers."""
        return (self.student, *self.teachers)

    def whole(self) -> Objective:
        """The whole loss of the student."""
        return self.objective(self.student, self.teachers)

    def bound(self, double: float, single: float) -> float:
        """The bound that holds for the precision of the models."""
        return double if self.double else single


def in_float64(model: Any) -> Any:
    """A copy of `model` with float64 numbers, of which the same are trained."""
    kept: dict[int, Any] = {}
    for parameter in model.parameters():
        wide = Parameter(parameter.data.astype(np.float64))
        wide.requires_grad = parameter.requires_grad
        kept[id(parameter)] = wide  # what deepcopy takes for the copy
    return copy.deepcopy(model, kept)


def hidden_states(model: Any, batch: Batch) -> np.ndarray:
    """The last hidden states (B, T, width) of `model` for the batch, read as in training."""
    with no_grad():
        return model.hidden(batch.ids, documents=batch.segments).data


def joined(batches: Sequence[Batch]) -> Batch:
    """The rows of all of them in one batch."""
    first, found = batches[0], {}
    for field in dataclasses.fields(first):
        value = getattr(first, field.name)
        if isinstance(value, np.ndarray):
            found[field.name] = np.concatenate([getattr(batch, field.name) for batch in batches])
    return replace(first, **found)


def first_rows(batch_at: Callable[[int], Batch], rows: int, *, count: int, tokens: int) -> Batch:
    """`count` of the first rows that a run sees, of which it has `rows`, cut to `tokens`; an even
    number of them if there are two. Where only answers have labels, it is the rows and the columns
    with the most labels that are taken: nothing can be tried without."""
    found: list[Batch] = []
    while sum(len(batch.ids) for batch in found) < min(_LOOKED_AT, rows):
        found.append(batch_at(len(found)))
    looked_at = joined(found)
    wanted = min(count, len(looked_at.ids))
    wanted -= wanted % 2 if wanted > 1 else 0
    starts = range(0, max(1, looked_at.ids.shape[1] - tokens + 1), max(1, tokens // 2))
    cuts = [looked_at.part(slice(None), slice(start, start + tokens)) for start in starts]
    best = max(cuts, key=lambda cut: _most(cut, wanted).sum())
    return best.part(np.sort(np.argsort(-_labels(best), kind="stable")[:wanted]))


def _labels(batch: Batch) -> np.ndarray:
    """How many labels each row has (B,)."""
    return np.count_nonzero(batch.labels != IGNORED, axis=1)


def _most(batch: Batch, count: int) -> np.ndarray:
    """The largest `count` of them."""
    return np.sort(_labels(batch))[-count:]


def labelled(batch: Batch, places: np.ndarray) -> Batch:
    """The same with a label only where `places` (B, T) says so, and it had one."""
    return replace(batch, labels=np.where(places, batch.labels, IGNORED))


def uneven(batch: Batch) -> Batch:
    """The same with fewer labels in each row than in the one before: what divides by the labels of
    a micro-batch is then seen to."""
    time = batch.ids.shape[1]
    lost = np.arange(len(batch.ids)) * time // (2 * len(batch.ids))  # (B,)
    return labelled(batch, np.arange(time) < (time - lost)[:, None])


def changed(batch: Batch, places: np.ndarray, vocabulary: int) -> Batch:
    """The same with another id at each of `places` (B, T); the labels stay."""
    return replace(batch, ids=np.where(places, (batch.ids + 1) % vocabulary, batch.ids))


def padded(batch: Batch, count: int, fill: int) -> Batch:
    """The same with `count` more positions at the right, of no document and without a label."""
    wide = {"ids": fill, "labels": IGNORED, "documents": -1, "positions": 0}
    found = {}
    for name, value in wide.items():
        held = getattr(batch, name)
        if held is not None:
            found[name] = np.pad(held, ((0, 0), (0, count)), constant_values=value)
    return replace(batch, **found)
