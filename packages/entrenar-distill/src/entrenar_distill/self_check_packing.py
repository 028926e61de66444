"""Documents that share a row: how much is read behind others, and whether boundaries hold."""

from collections.abc import Iterator, Sequence

import numpy as np

from entrenar_core.data.batches import IGNORED, Batch
from entrenar_distill.check import Check, Status
from entrenar_distill.self_check_gradient import apart, step_of, trained
from entrenar_distill.self_check_subject import Subject, labelled

TITLE = "documents that read others before them"
_BOUNDS = 1e-9, 2e-4


def packing(batches: Sequence[Batch]) -> Check:
    """The share of labelled positions that see tokens of an earlier document of their row: a fact
    about the data, which no bound is for."""
    seen = valid = 0
    for batch in batches:
        if batch.documents is None:
            why = "the rows do not say which documents they are of"
            return Check.skipped("packing", TITLE, why)
        counted = batch.labels != IGNORED
        later = batch.documents != batch.documents[:, :1]
        seen += 0 if batch.bounded else int(np.count_nonzero(counted & later))
        valid += int(np.count_nonzero(counted))
    rows = sum(len(batch.ids) for batch in batches)
    note = f"{seen / max(1, valid):.0%} of {valid} tokens in {rows} rows"
    if seen:
        note += "; dataset.boundaries: true keeps them apart"
    return Check("packing", TITLE, Status.OK, note)


def boundaries(subject: Subject) -> Iterator[Check]:
    """Where documents are kept apart, one has the loss and the gradient behind others that it has
    in a row of its own."""
    title, name = "a document behind others and alone", "boundaries"
    if not subject.batch.bounded:
        return  # `packing` says what that means
    place = _behind_another(subject.batch)
    if place is None:
        yield Check.skipped(name, title, "no row has a second document with a label")
        return
    row, columns = place
    packed = subject.batch.part(slice(row, row + 1))
    inside = np.zeros(packed.ids.shape, bool)
    inside[:, columns] = True
    alone = packed.part(slice(None), columns)
    objective = subject.whole()
    parameters = trained(subject.student, objective)
    found, wanted = (
        step_of(objective, parameters, [batch], step=subject.step)
        for batch in (labelled(packed, inside), alone)
    )
    note = f"relative difference of loss and gradient, {alone.targets} labels"
    yield Check.measured(name, title, apart(found, wanted), subject.bound(*_BOUNDS), note)


def _behind_another(batch: Batch) -> tuple[int, slice] | None:
    """A row and the columns in it of a document that is not its first, with the most labels."""
    best, most = None, 0
    for row, owners in enumerate(batch.documents if batch.documents is not None else ()):
        for document in np.unique(owners[(owners != owners[0]) & (owners >= 0)]):
            columns = np.flatnonzero(owners == document)
            cut = slice(int(columns[0]), int(columns[-1]) + 1)
            count = int(np.count_nonzero(batch.labels[row, cut] != IGNORED))
            if count > most:
                best, most = (row, cut), count
    return best
