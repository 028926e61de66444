"""What a cache says of the positions of a batch."""

from collections.abc import Sequence

import numpy as np

from entrenar_common.errors import ConfigError, IntegrityError, ShapeError
from entrenar_core import kernels
from entrenar_core.data.batches import Batch
from entrenar_core.distill.cache.row import StoredRow
from entrenar_core.distill.cache.selection import log_probabilities
from entrenar_core.kernels.divergences import Divergence


class FromCache:
    """Of each position of a batch the ids that were kept, with their probabilities, and what all
    others have together; an `Expected`.

    `rows` are what is stored of the rows of `batch`, which may be their beginnings; `shared` is how
    many ids, from 0, the probabilities are of. Raises IntegrityError where they are about others.
    """

    def __init__(
        self,
        batch: Batch,
        rows: Sequence[StoredRow],
        *,
        temperatures: Sequence[float],
        shared: int,
    ) -> None:
        length = batch.ids.shape[1]
        for row_id, ids, labels, row in zip(
            batch.row_ids, batch.ids, batch.labels, rows, strict=True
        ):
            _check_tokens(int(row_id), ids, labels, row)
        self.temperatures, self._shared = tuple(temperatures), shared
        self._tails = np.concatenate([row.tails[:, :length] for row in rows], axis=1)
        counts = np.concatenate([row.counts[:length] for row in rows])
        self._offsets = np.concatenate([[0], np.cumsum(counts)])
        ends = [int(row.counts[:length].sum()) for row in rows]
        self._ids = np.concatenate([row.ids[:end] for row, end in zip(rows, ends, strict=True)])
        self._values = np.concatenate(
            [row.values[:end] for row, end in zip(rows, ends, strict=True)]
        )

    def check(self, positions: int, vocabulary: int) -> None:
        if len(self._offsets) - 1 != positions or self._shared > vocabulary:
            raise ShapeError(
                f"a cache has {len(self._offsets) - 1} positions and {self._shared} ids, for "
                f"{positions} positions of a student with {vocabulary} ids",
                hint="give the batch that it was asked about, and a student with all of its ids",
            )

    def known(
        self, chunk: slice, temperature: float, dtype: np.dtype
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """ids and log p (K,), offsets (n + 1,) and tails (n,) of the positions `chunk`, in the
        terms of `kernels.sparse_distillation_grad`."""
        offsets = self._offsets[chunk.start : chunk.stop + 1]
        cut = slice(int(offsets[0]), int(offsets[-1]))
        tails = self._tails[self._place(temperature), chunk].astype(dtype)
        rows = np.repeat(np.arange(len(tails)), np.diff(offsets))
        values = self._values[cut].astype(dtype)
        log_p = log_probabilities(values, rows, tails, temperature)
        return self._ids[cut], log_p, offsets - offsets[0], tails

    def _place(self, temperature: float) -> int:
        if temperature not in self.temperatures:
            raise ConfigError(
                f"temperature {temperature:g} is none of those that the cache was made for: "
                + ", ".join(f"{t:g}" for t in self.temperatures),
                hint="take one of these, or make a cache with --temperature",
            )
        return self.temperatures.index(temperature)

    def compare(
        self,
        logits: np.ndarray,
        chunk: slice,
        targets: np.ndarray,
        *,
        divergence: Divergence,
        alpha: float,
        scale: float,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        check_divergence(divergence)
        ids, log_p, offsets, tails = self.known(chunk, divergence.temperature, logits.dtype)
        return kernels.sparse_distillation_grad(
            logits, ids, log_p, offsets, tails, targets, divergence=divergence, alpha=alpha,
            shared=self._shared, scale=scale,
        )  # fmt: skip


def check_divergence(divergence: Divergence) -> None:
    """Raise ConfigError for one that cannot be measured from a cache."""
    if divergence.name == "mse":
        raise ConfigError(
            "mse compares the logits of every id, and a cache has some of them",
            hint="take another loss, or a teacher that is read live",
        )
    if divergence.top_k is not None:
        raise ConfigError(
            f"top_k {divergence.top_k} with a cache, which has the teacher's likeliest ids already",
            hint="leave top_k out; what a cache keeps is decided when it is made (--max-k)",
        )


def _check_tokens(row_id: int, ids: np.ndarray, labels: np.ndarray, row: StoredRow) -> None:
    length = len(ids)
    if length > len(row.tokens):
        raise ShapeError(
            f"row {row_id} has {length} tokens, and {len(row.tokens)} in the cache",
            hint="rows are as long as those that the cache was made from",
        )
    wrong = np.flatnonzero(
        (row.tokens[:length] != ids) | ((labels >= 0) & (row.counts[:length] == 0))
    )
    if len(wrong):
        at = int(wrong[0])
        what = (
            f"token {at} is {int(ids[at])}, and {int(row.tokens[at])} in the cache"
            if row.tokens[at] != ids[at]
            else f"the cache has no prediction for token {at}"
        )
        raise IntegrityError(
            f"row {row_id}: {what}", hint="the cache was made from other rows: make it again"
        )
