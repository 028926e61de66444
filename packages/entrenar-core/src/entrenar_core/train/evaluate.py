"""Scoring models on held-out documents, each document on its own."""

import math
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from entrenar_common.progress import NullProgress, Progress
from entrenar_core import kernels
from entrenar_core.autograd import no_grad
from entrenar_core.autograd.ops.linear_loss import CHUNK
from entrenar_core.data.batches import IGNORED
from entrenar_core.data.documents import TokenizedDocuments

_LARGEST_EXPONENT = math.log(sys.float_info.max)


@dataclass(frozen=True)
class Scores:
    """What a model made of each document, in the documents' order.

    nats: Σ −log p of its tokens and the EOS after it; tokens: how many those are; bytes: its UTF-8
    length; agreed: at how many of them the most likely token is the reference model's.
    """

    nats: np.ndarray
    tokens: np.ndarray
    bytes: np.ndarray
    agreed: np.ndarray

    @property
    def loss(self) -> float:
        """Nats per token."""
        return float(self.nats.sum() / self.tokens.sum())

    @property
    def perplexity(self) -> float:
        return math.inf if self.loss > _LARGEST_EXPONENT else math.exp(self.loss)

    @property
    def bits_per_byte(self) -> float:
        """Comparable between models with different tokenizers, and with compressors."""
        return float(self.nats.sum() / math.log(2) / self.bytes.sum())

    @property
    def agreement(self) -> float:
        return float(self.agreed.sum() / self.tokens.sum())


def score(
    models: Mapping[str, Any],
    documents: TokenizedDocuments,
    *,
    seq_len: int,
    batch_size: int,
    eos_id: int,
    progress: Progress | None = None,
    between: Callable[[], None] = lambda: None,
) -> dict[str, Scores]:
    """Score `models` on the same windows; agreement is with the first of them.

    `between` is called before each batch: it may raise to end the work.

    A document is read as EOS, its tokens, EOS, in windows of `seq_len` that do not overlap; every
    token but the first EOS is predicted once, from what its window holds before it.
    """
    progress = progress or NullProgress()
    count = len(documents)
    nats = {name: np.zeros(count) for name in models}
    agreed = {name: np.zeros(count, np.int64) for name in models}
    windows = -(-(documents.lengths + 1) // seq_len)
    progress.start("evaluate", int(windows.sum()))
    for ids, labels, owners in _batches(documents, seq_len, batch_size, eos_id):
        between()
        reference: np.ndarray | None = None
        valid = labels >= 0
        for name, model in models.items():
            losses, best = _predictions(model, ids, labels)
            reference = best if reference is None else reference
            np.add.at(nats[name], owners, losses.sum(axis=1, dtype=np.float64))
            np.add.at(agreed[name], owners, ((best == reference) & valid).sum(axis=1))
        progress.advance(len(ids))
    progress.finish()
    lengths, sizes = documents.lengths + 1, documents.byte_counts
    return {name: Scores(nats[name], lengths, sizes, agreed[name]) for name in models}


def _batches(
    documents: TokenizedDocuments, seq_len: int, batch_size: int, eos_id: int
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """ids and labels (B, T) with the document of each row (B,)."""
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


def _predictions(model: Any, ids: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """−log p of each label and the most likely token, both (B, T), the logits in chunks."""
    with no_grad():
        hidden = model.hidden(ids).data
    rows, flat = hidden.reshape(-1, hidden.shape[-1]), labels.reshape(-1)
    losses, best = np.empty(len(rows), hidden.dtype), np.empty(len(rows), np.int64)
    for start in range(0, len(rows), CHUNK):
        part = slice(start, start + CHUNK)
        logits = kernels.matmul(rows[part], model.output_weight.data, trans_b=True)
        losses[part], best[part] = kernels.cross_entropy(logits, flat[part])
    return losses.reshape(labels.shape), best.reshape(labels.shape)
