"""Documents as token ids, and their division into training and held-out ones."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from entrenar_common.errors import ConfigError
from entrenar_core.data.sources import Skips
from entrenar_core.data.tokenizer import Ids
from entrenar_core.rng import stream

__all__ = [
    "Mask",
    "Sink",
    "Table",
    "TokenizedDocuments",
    "Written",
    "joined",
    "packed",
    "split",
    "split_indices",
]

Counts = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class TokenizedDocuments:
    """Documents as token ids, without the tokens that separate them.

    names:       what each document is called, (N,)
    tokens:      the ids they are slices of, int32, often mapped from a file: do not copy it whole
    starts, lengths: the slice of each document, int64 (N,)
    byte_counts: the length in UTF-8 of each text, or of what is trained on in it, int64 (N,); bits
                 per byte divide by it
    max_id:      no id is larger; compare it with the rows of the embedding before training
    fingerprint: a hash of names, ids and counts: equal for equal data
    skips:       the bad documents that were left out
    warnings:    what went wrong without stopping the work (no cache could be written)
    revision:    the commit of the dataset on the hub that they are from, None for files
    trained:     which of `tokens` a model is to learn to write, booleans beside them; None for all
    closed:      no EOS follows a document, which ends by itself; else one does, and is trained on
    """

    names: Sequence[str]
    tokens: Ids
    starts: Counts
    lengths: Counts
    byte_counts: Counts
    max_id: int
    fingerprint: str
    skips: Skips = field(default_factory=Skips)
    warnings: tuple[str, ...] = ()
    revision: str | None = None
    trained: Mask | None = None
    closed: bool = False

    @classmethod
    def from_arrays(
        cls,
        names: Sequence[str],
        ids: Sequence[Ids],
        byte_counts: Sequence[int],
        *,
        trained: Sequence[Mask] | None = None,
        closed: bool = False,
    ) -> "TokenizedDocuments":
        """Documents that are in memory.

        >>> docs = TokenizedDocuments.from_arrays(["a"], [np.array([5, 7], np.int32)], [9])
        >>> docs.document(0).tolist(), docs.max_id
        ([5, 7], 7)
        """
        table = Table(masked=trained is not None, closed=closed)
        written = Written()
        table.add(names, ids, byte_counts, written, trained)
        return table.finish(*written.arrays(), Skips())

    def __len__(self) -> int:
        return len(self.lengths)

    @property
    def total_tokens(self) -> int:
        """The tokens of all documents together."""
        return int(self.lengths.sum())

    @property
    def total_bytes(self) -> int:
        """The UTF-8 bytes of all documents together."""
        return int(self.byte_counts.sum())

    @property
    def offsets(self) -> Counts:
        """Where each document begins when they are put end to end, and the total, int64 (N+1,)."""
        return np.concatenate([np.zeros(1, np.int64), np.cumsum(self.lengths)])

    def document(self, index: int) -> Ids:
        """The ids of one document, int32, a view."""
        return self.tokens[self._slice(index)]

    def targets(self, index: int) -> Mask | None:
        """Which ids of one document are trained on, a view; None for all."""
        return None if self.trained is None else self.trained[self._slice(index)]

    def _slice(self, index: int) -> slice:
        start = int(self.starts[index])
        return slice(start, start + int(self.lengths[index]))

    def select(self, indices: Sequence[int] | npt.NDArray[np.integer[Any]]) -> "TokenizedDocuments":
        """The documents at `indices`, in that order; the ids are shared, not copied."""
        chosen = np.asarray(indices, dtype=np.int64)
        digest = hashlib.sha256(self.fingerprint.encode() + chosen.astype("<i8").tobytes())
        return replace(
            self,
            names=[self.names[index] for index in chosen],
            starts=self.starts[chosen],
            lengths=self.lengths[chosen],
            byte_counts=self.byte_counts[chosen],
            fingerprint=digest.hexdigest(),
        )


class Sink(Protocol):
    """Where the ids go while documents are tokenized."""

    def tokens(self, ids: Ids, /) -> object:
        """The next ids."""
        ...

    def mask(self, trained: Mask, /) -> object:
        """Which of them are trained on; not called where all are."""
        ...


class Written:
    """A sink in memory."""

    def __init__(self) -> None:
        self._ids: list[Ids] = []
        self._masks: list[Mask] = []
        self.tokens, self.mask = self._ids.append, self._masks.append

    def arrays(self) -> tuple[Ids, Mask]:
        """All ids and all masks."""
        return joined(self._ids), np.concatenate([np.empty(0, np.bool_), *self._masks])


class Table:
    """What is known of the documents while they are tokenized; the ids go elsewhere."""

    def __init__(self, *, masked: bool = False, closed: bool = False) -> None:
        self.masked, self.closed = masked, closed
        self.names: list[str] = []
        self.lengths: list[int] = []
        self.byte_counts: list[int] = []
        self.max_id = -1
        self.hash = hashlib.sha256()
        self.masks = hashlib.sha256()

    def add(
        self,
        names: Sequence[str],
        ids: Sequence[Ids],
        byte_counts: Sequence[int],
        sink: Sink,
        trained: Sequence[Mask] | None = None,
    ) -> None:
        tokens = joined(ids)
        sink.tokens(tokens)
        self.hash.update(tokens.data)
        if self.masked and trained:
            mask = np.concatenate(trained)
            sink.mask(mask)
            self.masks.update(mask.data)
        self.max_id = max(self.max_id, int(tokens.max(initial=-1)))
        self.names.extend(names)
        self.lengths.extend(map(len, ids))
        self.byte_counts.extend(byte_counts)

    def finish(self, tokens: Ids, trained: Mask, skips: Skips) -> TokenizedDocuments:
        self.hash.update(packed(self.lengths, self.byte_counts))
        self.hash.update("\n".join(self.names).encode())
        if self.masked or self.closed:
            self.hash.update(self.masks.digest() + bytes([self.masked, self.closed]))
        lengths, byte_counts = np.array([self.lengths, self.byte_counts], np.int64)
        return TokenizedDocuments(
            names=self.names,
            tokens=tokens,
            starts=np.cumsum(lengths) - lengths,
            lengths=lengths,
            byte_counts=byte_counts,
            max_id=self.max_id,
            fingerprint=self.hash.hexdigest(),
            skips=skips,
            trained=trained if self.masked else None,
            closed=self.closed,
        )


def joined(ids: Sequence[Ids]) -> Ids:
    return np.concatenate([np.empty(0, "<i4"), *ids]).astype("<i4", copy=False)


def packed(lengths: Sequence[int], byte_counts: Sequence[int]) -> bytes:
    return np.array([lengths, byte_counts], "<i8").tobytes()


def split(
    docs: TokenizedDocuments, held_out_share: float, seed: int
) -> tuple[TokenizedDocuments, TokenizedDocuments]:
    """The documents for training and those held out, each in the order they had.

    Raises what `split_indices` raises.
    """
    train, held_out = split_indices(len(docs), held_out_share, seed)
    return docs.select(train), docs.select(held_out)


def split_indices(count: int, held_out_share: float, seed: int) -> tuple[Counts, Counts]:
    """Which of `count` documents are for training, and which are held out, in rising order.

    A pure function of the number of documents, the share and the seed: the nearest whole number of
    documents to the share, and at least one on each side.
    Raises ConfigError for a share outside (0, 1) and for fewer than two documents.
    """
    if not 0 < held_out_share < 1:
        raise ConfigError(
            f"the held-out share is {held_out_share}, wanted a number between 0 and 1",
            hint="0.05 holds out every twentieth document",
        )
    if count < 2:
        raise ConfigError(
            f"{count} document cannot be split into training and held-out documents",
            hint="give the dataset as several files, or one document for each JSON line",
        )
    held_out = min(max(round(count * held_out_share), 1), count - 1)
    # Raw bits are the same in every version of numpy; its permutation need not be.
    bits = stream(seed, "held-out documents").bit_generator.random_raw(count)
    order = np.argsort(bits, kind="stable")
    return np.sort(order[held_out:]), np.sort(order[:held_out])
