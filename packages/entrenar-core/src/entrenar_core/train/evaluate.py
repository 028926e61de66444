"""Scoring models on held-out documents, each document on its own."""

import math
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from entrenar_common.progress import NullProgress, Progress
from entrenar_core import kernels
from entrenar_core.autograd.ops.linear_loss import CHUNK
from entrenar_core.data.documents import TokenizedDocuments
from entrenar_core.models.reading import CAUSAL, Reading
from entrenar_core.train.predicting import predicting
from entrenar_core.train.warm_up import TOKENS as WARM_UP
from entrenar_core.train.windows import window_counts, windows

BINS = 15
"""Intervals of equal width that confidences are sorted into."""

TOP = 5

_LARGEST_EXPONENT = math.log(sys.float_info.max)


@dataclass(frozen=True)
class TokenScores:
    """What a model made of each document, in the documents' order; sums over the tokens that it
    predicted there.

    nats:   Σ −log p
    tokens: how many there are
    agreed: at how many of them the most likely token is the first model's
    divergence: Σ KL(first model ‖ this one), over the ids that both have
    in_top: how many were among the `TOP` most likely ones
    brier:  Σ (confidence − hit)², the confidence being the probability of the most likely token,
            and a hit 1 where it is the one that came, else 0
    calibration: (N, BINS, 3): tokens whose confidence is in the bin, Σ confidence, hits. Bin i has
            confidences above i/BINS up to (i + 1)/BINS.
    seconds: what it took to compute all of them, without the comparison with the first model
    """

    nats: np.ndarray
    tokens: np.ndarray
    agreed: np.ndarray
    divergence: np.ndarray
    in_top: np.ndarray
    brier: np.ndarray
    calibration: np.ndarray
    seconds: float

    @property
    def loss(self) -> float:
        """Nats per token."""
        return float(self.nats.sum() / self.tokens.sum())

    @property
    def perplexity(self) -> float:
        return perplexity(self.loss)

    @property
    def agreement(self) -> float:
        return float(self.agreed.sum() / self.tokens.sum())


@dataclass(frozen=True)
class Scores(TokenScores):
    """Those of a model that predicts all tokens of a document that are trained on, of which the EOS
    after it, where there is one, is one.

    bytes:  the UTF-8 length of the document, or of what is trained on in it
    """

    bytes: np.ndarray

    @property
    def bits_per_byte(self) -> float:
        """Comparable between models with different tokenizers, and with compressors."""
        return float(self.nats.sum() / math.log(2) / self.bytes.sum())


class ScoredRows(NamedTuple):
    """What models are measured on: ids, labels and mask (B, T) as a batch has them, and the number
    of the document that each row is of, (B,), which does not go down from row to row."""

    ids: np.ndarray
    labels: np.ndarray
    owners: np.ndarray
    mask: np.ndarray | None = None
    segments: None = None


def perplexity(loss: float) -> float:
    """exp(loss), infinite where that is beyond all numbers."""
    return math.inf if loss > _LARGEST_EXPONENT else math.exp(loss)


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
    """Score `models` on the same windows, as `windows` says; agreement and divergence are from the
    first of them. One may be a `Blend` of several.

    `between` is called before each batch: it may raise to end the work.
    """
    rows = (ScoredRows(*found) for found in windows(documents, seq_len, batch_size, eos_id))
    found = score_rows(
        models, rows, documents=len(documents), total=int(window_counts(documents, seq_len).sum()),
        reading=CAUSAL, token=eos_id, progress=progress, between=between,
    )  # fmt: skip
    return {n: Scores(**vars(each), bytes=documents.byte_counts) for n, each in found.items()}


def score_rows(
    models: Mapping[str, Any],
    batches: Iterable[ScoredRows],
    *,
    documents: int,
    total: int,
    reading: Reading,
    token: int,
    progress: Progress | None = None,
    between: Callable[[], None] = lambda: None,
) -> dict[str, TokenScores]:
    """Score `models`, read as `reading` has it, on the `total` rows of `batches`, which are of
    so many documents; agreement and divergence are from the first of them.

    `token` is some id that all models know. `between` is called before each batch.
    """
    progress = progress or NullProgress()
    running = [_Running(model, reading, documents) for model in models.values()]
    progress.start("evaluate", total)
    for each in running:
        each.load_kernels(token)
    for rows in batches:
        between()
        chosen = np.flatnonzero(rows.labels >= 0)
        targets, owners = rows.labels.reshape(-1)[chosen], rows.owners[chosen // rows.ids.shape[1]]
        for each in running:
            each.read(rows)
        for start in range(0, len(chosen), CHUNK):
            _measure(running, slice(start, min(start + CHUNK, len(chosen))), targets)
        for each in running:
            each.add(owners)
        progress.advance(len(rows.ids))
    progress.finish()
    return {name: each.scores() for name, each in zip(models, running, strict=True)}


def _measure(running: list["_Running"], part: slice, targets: np.ndarray) -> None:
    """Tokens `part` of a batch: two models' logits of them exist at a time."""
    first, *others = running
    expected = first.predict(part, targets)
    first.agreed[part], first.divergence[part] = True, 0.0
    for each in others:
        logits = each.predict(part, targets)
        shared = min(logits.shape[1], expected.shape[1])
        each.divergence[part] = kernels.divergence(logits, expected, shared=shared)
        each.agreed[part] = each.best[part] == first.best[part]


class _Running:
    """What is known of one model: sums over documents, and the tokens of the batch at hand."""

    def __init__(self, model: Any, reading: Reading, documents: int):
        self.model, self.reading, self.seconds = model, reading, 0.0
        self.source = predicting(model, reading)
        self.sums = np.zeros((documents, 5))
        self.calibration = np.zeros((documents, BINS, 3))

    def load_kernels(self, token: int) -> None:
        """Read some tokens: kernels are loaded at their first call, which is not part of the
        time."""
        count = min(WARM_UP, CHUNK, self.reading.positions(self.model))
        ids = np.full((1, count), token)
        self.read(ScoredRows(ids, ids, np.zeros(1, np.int64)))
        self.predict(slice(0, count), ids[0])
        self.seconds = 0.0

    def read(self, batch: ScoredRows) -> None:
        """What the head makes of a batch, at the positions that something is predicted at."""
        started = time.perf_counter()
        self.source.read(batch)
        count, dtype = int(np.count_nonzero(batch.labels >= 0)), self.source.dtype
        self.losses, self.confidence = (np.empty(count, dtype) for _ in range(2))
        self.ranks, self.best = (np.empty(count, np.int64) for _ in range(2))
        self.divergence, self.agreed = np.empty(count, dtype), np.empty(count, bool)
        self.seconds += time.perf_counter() - started

    def predict(self, part: slice, targets: np.ndarray) -> np.ndarray:
        """Look at the logits (part, V), which are overwritten by those of the next part."""
        started = time.perf_counter()
        logits = self.source.logits(part)
        found = kernels.predictions(logits, targets[part])
        self.losses[part], self.ranks[part], self.best[part], self.confidence[part] = found
        self.seconds += time.perf_counter() - started
        return logits

    def add(self, owners: np.ndarray) -> None:
        """Add the batch's tokens to the documents (tokens,) that they are of."""
        if not len(owners):
            return
        hits, first, count = self.ranks == 0, owners[0], owners[-1] + 1 - owners[0]
        # in float64, since it is where thousands of tokens are added up
        confidence = self.confidence.astype(np.float64)
        each = [
            self.losses, self.agreed, self.divergence, self.ranks < TOP, (confidence - hits) ** 2
        ]  # fmt: skip
        for column, values in enumerate(each):
            found = np.bincount(owners - first, values, count)
            self.sums[first : first + count, column] += found
        # NaN has a place too: that it was there is seen in the losses
        bins = np.clip(np.nan_to_num(np.ceil(confidence * BINS) - 1), 0, BINS - 1).astype(np.int64)
        places = (owners - first) * BINS + bins
        for column, values in enumerate((np.ones(len(bins)), confidence, hits)):
            found = np.bincount(places, values, count * BINS).reshape(count, BINS)
            self.calibration[first : first + count, :, column] += found

    def scores(self) -> TokenScores:
        nats, agreed, divergence, in_top, brier = self.sums.T
        tokens = self.calibration[..., 0].sum(axis=1).astype(np.int64)
        return TokenScores(
            nats=nats, tokens=tokens, agreed=agreed, divergence=divergence, in_top=in_top,
            brier=brier, calibration=self.calibration, seconds=self.seconds,
        )  # fmt: skip
