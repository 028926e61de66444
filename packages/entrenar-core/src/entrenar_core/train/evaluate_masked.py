"""Scoring masked language models on held-out documents, of which always the same is hidden."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from entrenar_common.progress import Progress
from entrenar_core.data.documents import TokenizedDocuments
from entrenar_core.data.masking import MaskedRows, MaskTokens
from entrenar_core.models.reading import MASKED
from entrenar_core.train.evaluate import ScoredRows, TokenScores, score_rows

__all__ = ["score_masked"]


def score_masked(
    models: Mapping[str, Any],
    documents: TokenizedDocuments,
    *,
    seq_len: int,
    batch_size: int,
    tokens: MaskTokens,
    seed: int,
    share: float,
    progress: Progress | None = None,
    between: Callable[[], None] = lambda: None,
) -> dict[str, TokenScores]:
    """Score `models` on the same hidden tokens, a function of `seed` and the documents alone;
    agreement and divergence are from the first of them.

    The sum of −log p over hidden tokens is a sample of the pseudo-log-likelihood, for which each
    token is hidden once, alone: Salazar et al. 2019, arXiv:1910.14659. It is no likelihood of the
    text, so it says nothing in bits per byte. A document without a token that stands for text has
    sums of 0. `between` is called before each batch: it may raise to end the work.
    """
    rows = MaskedRows(documents, seq_len=seq_len, tokens=tokens, share=share)

    def batches() -> Iterator[ScoredRows]:
        for batch in rows.in_order(batch_size, seed=seed):
            yield ScoredRows(batch.ids, batch.labels, rows.owners(batch.row_ids), batch.mask)

    return score_rows(
        models, batches(), documents=len(documents), total=rows.count, reading=MASKED,
        token=tokens.mask, progress=progress, between=between,
    )  # fmt: skip
