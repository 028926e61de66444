"""Documents cut into the rows of tokens that a model is measured on."""

from collections.abc import Iterator

import numpy as np

from entrenar_core.data.batches import IGNORED
from entrenar_core.data.documents import TokenizedDocuments

__all__ = ["target_counts", "window_counts", "windows"]


def window_counts(documents: TokenizedDocuments, seq_len: int) -> np.ndarray:
    """How many windows each document has, (N,)."""
    if documents.trained is None:
        return -(-np.maximum(documents.lengths + _around(documents) - 1, 0) // seq_len)
    found = (_windows(documents, index, seq_len, 0) for index in range(len(documents)))
    return np.array([sum(1 for _ in each) for each in found], np.int64)


def target_counts(documents: TokenizedDocuments) -> np.ndarray:
    """How many tokens of each document are labels in its windows, (N,)."""
    if documents.trained is None:
        return np.maximum(documents.lengths + _around(documents) - 1, 0)
    labels = (_labelled(documents, index, 0)[1] for index in range(len(documents)))
    return np.array([np.count_nonzero(each >= 0) for each in labels], np.int64)


def windows(
    documents: TokenizedDocuments, seq_len: int, batch_size: int, eos_id: int
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """ids and labels (B, T) with the document of each row (B,), which does not go down.

    A document is read as EOS, its tokens, EOS, or where it is closed as its tokens alone, in
    windows of `seq_len` that do not overlap; every token but the first that is trained on is
    a label once, and the others are negative. Windows without a label are left out.
    """
    rows: list[tuple[np.ndarray, np.ndarray, int]] = []
    for index in range(len(documents)):
        for ids, labels in _windows(documents, index, seq_len, eos_id):
            rows.append((ids, labels, index))
            if len(rows) == batch_size:
                yield _padded(rows, seq_len, eos_id)
                rows = []
    if rows:
        yield _padded(rows, seq_len, eos_id)


def _around(documents: TokenizedDocuments) -> int:
    """How many EOS a document is read between."""
    return 0 if documents.closed else 2


def _windows(
    documents: TokenizedDocuments, index: int, seq_len: int, eos_id: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """ids and labels of one document, each (≤ seq_len,)."""
    text, labels = _labelled(documents, index, eos_id)
    for start in range(0, len(labels), seq_len):
        cut = slice(start, start + seq_len)
        if np.any(labels[cut] >= 0):
            yield text[:-1][cut], labels[cut]


def _labelled(
    documents: TokenizedDocuments, index: int, eos_id: int
) -> tuple[np.ndarray, np.ndarray]:
    """A document's tokens with what they are read between, (n,), and their labels (n - 1,)."""
    around = [eos_id] * (_around(documents) // 2)
    text = np.concatenate((around, documents.document(index), around)).astype(np.int64)
    mask = documents.targets(index)
    if mask is None:
        return text, text[1:]
    counts = np.concatenate(([False] * len(around), mask, [True] * len(around)))
    return text, np.where(counts, text, IGNORED)[1:]


def _padded(
    rows: list[tuple[np.ndarray, np.ndarray, int]], seq_len: int, eos_id: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    ids = np.full((len(rows), seq_len), eos_id, np.int64)
    labels = np.full((len(rows), seq_len), IGNORED, np.int64)
    for i, (window, targets, _) in enumerate(rows):
        ids[i, : len(window)] = window
        labels[i, : len(targets)] = targets
    return ids, labels, np.array([owner for _, _, owner in rows])
