"""Rows of token ids with their targets, in an order that is a function of the seed only."""

from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import numpy.typing as npt

from entrenar_common.errors import ConfigError, ShapeError
from entrenar_core.data.documents import TokenizedDocuments
from entrenar_core.rng import stream

__all__ = ["IGNORED", "Batch", "Batches", "epoch_order"]

Int64 = npt.NDArray[np.int64]
Float64 = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

_ROWS_AT_ONCE = 1024
IGNORED = -100  # the label that cross-entropy leaves out, in PyTorch and here


@dataclass(frozen=True, eq=False)
class Batch:
    """`labels[b, t]` is the token to predict at `ids[b, t]`, or IGNORED: the one that follows, or
    what was there before it was masked.

    ids, labels: int64 (B, T); row_ids: which rows of the dataset these are, int64 (B,)
    documents: the document that each id is of, its EOS included, int64 (B, T), -1 for padding;
               None where ids are of no document
    positions: the id's place in that document, int64 (B, T), 0 for padding; None as above
    bounded: whether a model is to read each document of a row as if it were alone
    mask: the ids that are no padding, for models that would see it, bool (B, T); None for all
    """

    ids: Int64
    labels: Int64
    row_ids: Int64
    documents: Int64 | None = None
    positions: Int64 | None = None
    bounded: bool = False
    mask: Mask | None = None

    @property
    def segments(self) -> Int64 | None:
        """`documents` where they are to be kept apart, None where rows are read as wholes."""
        return self.documents if self.bounded else None

    @property
    def targets(self) -> int:
        """How many labels are not ignored: what a mean loss divides by."""
        return int(np.count_nonzero(self.labels != IGNORED))

    @property
    def tokens(self) -> int:
        """How many tokens a step is said to have trained on: those that are predicted."""
        return self.targets

    def split(self, parts: int) -> list["Batch"]:
        """Equal consecutive parts, for accumulating gradients; views, not copies."""
        if parts < 1 or len(self.ids) % parts:
            raise ConfigError(
                f"a batch of {len(self.ids)} rows cannot be split into {parts} equal parts",
                hint="choose a batch size that is a multiple of the accumulation steps",
            )
        size = len(self.ids) // parts
        cuts = [slice(start, start + size) for start in range(0, len(self.ids), size)]
        return [self.part(cut) for cut in cuts]

    def part(self, rows: slice | Int64, tokens: slice = slice(None)) -> "Batch":
        """Some rows, by a slice or by their numbers, and of these some columns; views of what a
        slice takes, else copies."""
        cut = rows, tokens
        return Batch(
            self.ids[cut],
            self.labels[cut],
            self.row_ids[rows],
            None if self.documents is None else self.documents[cut],
            None if self.positions is None else self.positions[cut],
            self.bounded,
            None if self.mask is None else self.mask[cut],
        )


class _Rows(Protocol):
    """How documents are laid out in rows of T inputs and T targets.

    full: how many rows there are, without one that the end of a stream leaves unfilled.
    """

    full: int

    def places(self, row_ids: Int64, width: int) -> tuple[Int64, Int64, Mask]:
        """For `width` places of each row: document, position in it, and whether there is one."""
        ...


class _Packed:
    """Documents, each followed by EOS, as one stream; a row starts on the last token of the one
    before, so that every token but the first is a target exactly once."""

    def __init__(self, lengths: Int64, seq_len: int) -> None:
        self._starts = np.cumsum(lengths) - lengths
        self._total = int(lengths.sum())
        self._seq_len = seq_len
        targets = max(self._total - 1, 0)
        self.full = targets // seq_len

    def places(self, row_ids: Int64, width: int) -> tuple[Int64, Int64, Mask]:
        position = row_ids[:, None] * self._seq_len + np.arange(width)
        present = position < self._total
        position = np.minimum(position, self._total - 1)
        document = np.searchsorted(self._starts, position, side="right") - 1
        return document, position - self._starts[document], present


class _Padded:
    """Each document, followed by EOS, in rows of its own, the last one padded."""

    def __init__(self, lengths: Int64, seq_len: int) -> None:
        rows = -(-np.maximum(lengths - 1, 0) // seq_len)  # one token alone has no target
        self._lengths = lengths
        self._starts = np.cumsum(rows) - rows
        self._seq_len = seq_len
        self.full = int(rows.sum())

    def places(self, row_ids: Int64, width: int) -> tuple[Int64, Int64, Mask]:
        # Of documents without rows, which start where the next one does, this finds the next one.
        document = (np.searchsorted(self._starts, row_ids, side="right") - 1)[:, None]
        position = (row_ids[:, None] - self._starts[document]) * self._seq_len + np.arange(width)
        present = position < self._lengths[document]
        return np.broadcast_to(document, position.shape), position, present


class _Source:
    """Gathers rows from tokenized documents."""

    def __init__(
        self,
        docs: TokenizedDocuments,
        seq_len: int,
        batch_size: int,
        packing: bool,
        boundaries: bool,
        eos_id: int | None,
        pad_id: int | None,
    ) -> None:
        if seq_len < 1 or batch_size < 1:
            raise ConfigError(
                f"seq_len {seq_len} and batch_size {batch_size} must be at least 1",
                hint="typical are 128 to 2048 tokens and 4 to 64 rows",
            )
        fill = pad_id if pad_id is not None else eos_id
        separated = not docs.closed
        if fill is None or (packing and separated and eos_id is None):
            raise ConfigError(
                "the tokenizer has no end-of-text token to put between documents",
                hint="name one as eos_token in its tokenizer_config.json",
            )
        if boundaries and not packing:
            raise ConfigError(
                "boundaries between the documents of a row, of which each has only one",
                hint="pack documents, or leave boundaries out",
            )
        self._docs = docs
        self.documents = len(docs)
        self._seq_len = seq_len
        self._boundaries = boundaries
        self._fill = fill
        self._eos = eos_id if eos_id is not None else fill
        self.highest_id = max(docs.max_id, fill, self._eos)
        layout = _Packed if packing else _Padded
        self.rows: _Rows = layout(docs.lengths + (separated and eos_id is not None), seq_len)
        self.kept = self._kept()

    def _kept(self) -> Int64:
        """The rows in which something is trained on, of those that are full."""
        every = np.arange(self.rows.full)
        if self._docs.trained is None:
            return every
        blocks = np.split(every, range(_ROWS_AT_ONCE, len(every), _ROWS_AT_ONCE))
        wanted = [np.any(self._gather(block).labels != IGNORED, axis=1) for block in blocks]
        return every[np.concatenate(wanted)]

    def gather(self, row_ids: Int64) -> Batch:
        """Rows by their numbers among those that are kept."""
        return replace(self._gather(self.kept[row_ids]), row_ids=row_ids)

    def _gather(self, row_ids: Int64) -> Batch:
        document, position, present = self.rows.places(row_ids, self._seq_len + 1)
        docs = self._docs
        inside = present & (position < docs.lengths[document])
        values = np.where(present, self._eos, self._fill).astype(np.int64)
        values[inside] = docs.tokens[(docs.starts[document] + position)[inside]]
        counts = present.copy()
        if docs.trained is not None:
            counts[inside] = docs.trained[(docs.starts[document] + position)[inside]]
        labels = np.where(counts[:, 1:], values[:, 1:], IGNORED)
        owners, places = np.where(present, document, -1), np.where(present, position, 0)
        if self._boundaries:
            # nothing in its own document leads to a first token
            labels[owners[:, 1:] != owners[:, :-1]] = IGNORED
        of_ids = owners[:, :-1], places[:, :-1]
        return Batch(values[:, :-1], labels, row_ids, *of_ids, self._boundaries)

    def means(self, values: Float64) -> Float64:
        found = np.empty(len(self.kept))
        for start in range(0, len(found), _ROWS_AT_ONCE):
            block = self.kept[start : start + _ROWS_AT_ONCE]
            document, _, present = self.rows.places(block, self._seq_len + 1)
            first = present.copy()  # of each document in the row: they lie one after the other
            first[:, 1:] &= document[:, 1:] != document[:, :-1]
            sums = np.where(first, values[document], 0.0).sum(axis=1)
            found[start : start + len(block)] = sums / first.sum(axis=1)
        return found

    def names(self, row_ids: Int64) -> list[str]:
        document, _, present = self.rows.places(self.kept[row_ids], self._seq_len + 1)
        return [self._docs.names[int(index)] for index in np.unique(document[present])]


class Batches:
    """Training batches: position 0, 1, 2 … counts batches from the start, across epochs.

    With `packing`, documents are joined by EOS into one stream and cut into rows; without, each
    document has rows of its own, padded with `pad_id` (or `eos_id`). With `boundaries`, a model
    reads each document of a packed row as if it were alone (`Batch.segments`), and the first token
    of a document is no target, as in a row of its own; what a row's end cuts off of a document is
    read without what came before. Each epoch has every full row
    at most once, in an order that depends on seed and epoch only; the rows that do not fill
    a batch are left out of that epoch. Rows in which nothing is trained on are left out of all.

    Documents that are `closed` have no EOS after them. Tokens that are not `trained` on are no
    labels; the EOS after a document is one.

    Raises ConfigError when there is not one whole batch, when nothing is trained on, without an EOS
    token to join documents with, or for boundaries without packing.

    >>> docs = TokenizedDocuments.from_arrays(["a"], [np.arange(9, dtype=np.int32)], [9])
    >>> batches = Batches(docs, seq_len=3, batch_size=1, seed=0, eos_id=0, pad_id=None)
    >>> batches.rows, batches.steps_per_epoch
    (3, 3)
    """

    def __init__(
        self,
        docs: TokenizedDocuments,
        *,
        seq_len: int,
        batch_size: int,
        seed: int,
        eos_id: int | None,
        pad_id: int | None = None,
        packing: bool = True,
        boundaries: bool = False,
    ) -> None:
        self._source = _Source(docs, seq_len, batch_size, packing, boundaries, eos_id, pad_id)
        self.rows = len(self._source.kept)
        self.batch_size = batch_size
        self.seq_len = seq_len
        self.steps_per_epoch = self.rows // batch_size
        self._seed = seed
        self._order: tuple[int, Int64] | None = None
        if self.rows == 0 and self._source.rows.full:
            raise ConfigError(
                f"of {docs.total_tokens} tokens in {len(docs)} documents none is trained on",
                hint="give a dataset with answers, or loss_on: all",
            )
        if self.steps_per_epoch == 0:
            raise ConfigError(
                f"{docs.total_tokens} tokens in {len(docs)} documents make {self.rows} rows "
                f"of {seq_len}, fewer than one batch of {batch_size}",
                hint="use more data, a smaller batch_size or a smaller seq_len",
            )

    def batch(self, position: int) -> Batch:
        """The batch at `position`, the same in every process and in any order of calls."""
        if position < 0:
            raise ConfigError(f"batch position {position} is negative", hint="positions start at 0")
        epoch, step = divmod(position, self.steps_per_epoch)
        start = step * self.batch_size
        return self._source.gather(self._permutation(epoch)[start : start + self.batch_size])

    def gather(self, row_ids: Int64) -> Batch:
        """The rows of these numbers, from 0 to `rows` − 1, in this order: the same whatever the
        seed is."""
        return self._source.gather(row_ids)

    @property
    def highest_id(self) -> int:
        """No id in a row is larger."""
        return self._source.highest_id

    def names(self, row_ids: Int64) -> list[str]:
        """The documents that the rows are made of, in order, each once."""
        return self._source.names(row_ids)

    def means(self, values: Float64) -> Float64:
        """For each row the mean of `values` (documents,) over the documents that it is made of,
        each counted once: (rows,), by the numbers that `gather` takes.

        Raises ShapeError for another number of values than documents.
        """
        if values.shape != (self._source.documents,):
            raise ShapeError(
                f"values {values.shape} of {self._source.documents} documents",
                hint="give one for each document",
            )
        return self._source.means(values)

    def _permutation(self, epoch: int) -> Int64:
        if self._order is None or self._order[0] != epoch:
            self._order = epoch, epoch_order(self.rows, self._seed, epoch)
        return self._order[1]


def epoch_order(rows: int, seed: int, epoch: int) -> Int64:
    """The order (rows,) in which an epoch has its rows: a function of these numbers alone."""
    # Raw bits are the same in every version of numpy; its permutation need not be.
    bits = stream(seed, "data order", epoch).bit_generator.random_raw(rows)
    return np.argsort(bits, kind="stable")
