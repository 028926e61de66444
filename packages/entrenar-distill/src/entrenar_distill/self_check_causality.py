"""No position knows what comes after it, and each is taught the token that does."""

from collections.abc import Iterator

import numpy as np

from entrenar_core.autograd import no_grad
from entrenar_core.data.batches import IGNORED, Batch
from entrenar_core.data.documents import TokenizedDocuments
from entrenar_core.testing import difference
from entrenar_distill.check import Check
from entrenar_distill.self_check_gradient import loss_of
from entrenar_distill.self_check_subject import Subject, changed, hidden_states, labelled

_BOUNDS = 1e-9, 1e-4


def causality(subject: Subject) -> Iterator[Check]:
    """Other tokens behind a position change neither what the models say up to it, nor the loss of
    the labels up to it; another token at the position itself does change that loss."""
    batch = subject.batch
    time = batch.ids.shape[1]
    title = "what comes later changes what is predicted"
    columns = np.flatnonzero((batch.labels != IGNORED).any(axis=0))
    columns = columns[columns < time - 1]
    if not len(columns):
        yield Check.skipped("causal_models", title, "no label has a token behind it")
        return
    cuts = sorted({int(columns[i]) for i in (0, len(columns) // 2, -1)})
    vocabulary = min(model.config.vocab_size for model in subject.models)
    bound, models, losses, deaf = subject.bound(*_BOUNDS), [], [], []
    objective = subject.whole()
    for cut in cuts:
        places = np.broadcast_to(np.arange(time), batch.ids.shape)
        other = changed(batch, places > cut, vocabulary)
        for model in subject.models:
            plain, found = (hidden_states(model, b)[:, : cut + 1] for b in (batch, other))
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
    document, its EOS, or behind that the first one of the next document, where rows are read as
    wholes. What is not trained on has no label."""
    title = "labels that are not the next token"
    if batch.documents is None or batch.positions is None:
        return Check.skipped("labels", title, "the rows do not say which documents they are of")
    end = None if documents.closed else eos_id
    wrong = 0
    places = zip(
        batch.ids.flat, batch.labels.flat, batch.documents.flat, batch.positions.flat, strict=True
    )
    for token, label, document, position in places:
        if document < 0:
            wrong += label != IGNORED
            continue
        here, _ = _token(documents, int(document), int(position), end)
        after, trained = _token(documents, int(document), int(position) + 1, end)
        wrong += here != token
        if after is not None:
            wrong += label != (after if trained else IGNORED)
        elif label != IGNORED:
            following, trained = _token(documents, int(document) + 1, 0, end)
            wrong += batch.bounded or not trained or label != following
    note = f"of {batch.targets} labels and {batch.ids.size} ids, beside the documents themselves"
    return Check.measured("labels", title, int(wrong), 0, note)


def _token(
    documents: TokenizedDocuments, document: int, position: int, end: int | None
) -> tuple[int | None, bool]:
    """The token of a document at a position, and whether it is trained on; `end` behind its last
    one, and None further on."""
    if document >= len(documents):
        return None, False
    tokens, targets = documents.document(document), documents.targets(document)
    if position < len(tokens):
        return int(tokens[position]), targets is None or bool(targets[position])
    return (end if position == len(tokens) else None), True
