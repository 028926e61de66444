"""No position knows what comes after it, and each is taught the token that does."""

from collections.abc import Iterator

import numpy as np

from entrenar_core.autograd import no_grad
from entrenar_core.data.batches import IGNORED, Batch
from entrenar_core.data.documents import TokenizedDocuments
from entrenar_core.testing import difference
from entrenar_distill.check import Check
from entrenar_distill.self_check_gradient import loss_of
from entrenar_distill.self_check_subject import Subject, changed, labelled

_BOUNDS = 1e-9, 1e-4


def causality(subject: Subject) -> Iterator[Check]:
    """Other tokens behind a position change neither what the models say up to it, nor the loss of
    the labels up to it; another token at the position itself does change that loss."""
    batch = subject.batch
    time = batch.ids.shape[1]
    title = "what comes later changes what is predicted"
    if time < 2:
        yield Check.skipped("causal_models", title, "the rows have one token")
        return
    cuts = sorted({0, time // 2, time - 2})
    vocabulary = min(subject.student.config.vocab_size, subject.teacher.config.vocab_size)
    bound, models, losses, deaf = subject.bound(*_BOUNDS), [], [], []
    objective = subject.objective(subject.student, subject.teacher)
    for cut in cuts:
        places = np.broadcast_to(np.arange(time), batch.ids.shape)
        other = changed(batch, places > cut, vocabulary)
        for model in (subject.student, subject.teacher):
            with no_grad():
                plain, found = (model.hidden(b.ids).data[:, : cut + 1] for b in (batch, other))
            models.append(difference(found, plain))
        until, after = labelled(batch, places <= cut), labelled(other, places <= cut)
        losses.append(_relative(objective, until, after, subject.step))
        alone = labelled(batch, places == cut)
        here = changed(alone, places == cut, vocabulary)
        deaf.append(_relative(objective, alone, here, subject.step))
    where = f"token{'s' if len(cuts) > 1 else ''} {', '.join(str(cut + 1) for cut in cuts)}"
    note = f"relative difference of hidden states up to {where}"
    yield Check.measured("causal_models", title, max(models), bound, note)
    note = f"relative difference of the loss up to {where}"
    yield Check.measured(
        "causal_loss", "what comes later changes the loss", max(losses), bound, note
    )
    lost = sum(change <= bound for change in deaf)
    note = f"losses of single labels that do not see their token, of {len(deaf)}"
    yield Check.measured("causal_newest", "what comes last is not seen", lost, 0, note)


def _relative(objective, plain: Batch, other: Batch, step: int) -> float:
    with no_grad():
        before = loss_of(objective, plain, step=step)
        after = loss_of(objective, other, step=step)
    return abs(after - before) / max(abs(before), 1e-9)


def labels(batch: Batch, documents: TokenizedDocuments, eos_id: int | None) -> Check:
    """Each id is the one that its document has there, and each label the one after it: of the
    document, its EOS, or behind that the first one of the next document."""
    title = "labels that are not the next token"
    if batch.documents is None or batch.positions is None:
        return Check.skipped("labels", title, "the rows do not say which documents they are of")
    wrong = seen = 0
    places = zip(
        batch.ids.flat, batch.labels.flat, batch.documents.flat, batch.positions.flat, strict=True
    )
    for token, label, document, position in places:
        if document < 0:
            wrong += label != IGNORED
            continue
        here, after = _tokens(documents, int(document), int(position), eos_id)
        wrong += here != token
        if label == IGNORED:
            continue
        seen += 1
        if after is None and document + 1 < len(documents):
            after = _tokens(documents, int(document) + 1, 0, eos_id)[0]
        wrong += label != after
    note = f"of {seen} labels and {batch.ids.size} ids, beside the documents themselves"
    return Check.measured("labels", title, wrong, 0, note)


def _tokens(
    documents: TokenizedDocuments, document: int, position: int, eos_id: int | None
) -> tuple[int | None, int | None]:
    """The token of a document at a position and the one after it, its EOS included; None behind
    its end."""
    tokens = documents.document(document)
    found = [
        int(tokens[place]) if place < len(tokens) else eos_id if place == len(tokens) else None
        for place in (position, position + 1)
    ]
    return found[0], found[1]
