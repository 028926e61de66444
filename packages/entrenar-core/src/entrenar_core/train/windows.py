"""Documents cut into the rows of tokens that a model is measured on."""

from collections.abc import Iterator

import numpy as np

from entrenar_core.data.batches import IGNORED
from entrenar_core.data.documents import TokenizedDocuments

__all__ = ["window_counts", "windows"]


def window_counts(documents: TokenizedDocuments, seq_len: int) -> np.ndarray:
    """How many windows each document has, (N,)."""
    return -(-(documents.lengths + 1) // seq_len)


def windows(
    documents: TokenizedDocuments, seq_len: int, batch_size: int, eos_id: int
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """ids and labels (B, T) with the document of each row (B,), which does not go down.

    A document is read as EOS, its tokens, EOS, in windows of `seq_len` that do not overlap; every
    token but the first EOS is a label once, and the others are negative.
    """
    rows: list[tuple[np.ndarray, int]] = []
    for index in range(len(documents)):
        text = np.concatenate(([eos_id], documents.document(index), [eos_id]))
        for start in range(0, len(text) - 1, seq_len):
            rows.append((text[start : start + seq_len + 1], index))
            if len(rows) == batch_size:
                yield _padded(rows, seq_len, eos_id)
                rows = []
    if rows:
        yield _padded(rows, seq_len, eos_id)


def _padded(
    rows: list[tuple[np.ndarray, int]], seq_len: int, eos_id: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    ids = np.full((len(rows), seq_len), eos_id, np.int64)
    labels = np.full((len(rows), seq_len), IGNORED, np.int64)
    for i, (window, _) in enumerate(rows):
        ids[i, : len(window) - 1] = window[:-1]
        labels[i, : len(window) - 1] = window[1:]
    return ids, labels, np.array([owner for _, owner in rows])
