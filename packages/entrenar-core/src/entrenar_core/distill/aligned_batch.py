"""What a teacher with another tokenizer reads for a batch, and which of its tokens stand beside
which of the student's."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from entrenar_common.errors import ConfigError
from entrenar_core.data.batches import Batch
from entrenar_core.distill.alignment import Alignment

__all__ = ["AlignedBatch", "AlignedRows"]

Int64 = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class AlignedBatch:
    """The teacher's side of a batch.

    ids:     its rows, padded at the end, int64 (B, W); row b has the text of the student's row b
    places:  where in ids, row after row, the m tokens of the groups are predicted, int64 (m,)
    targets: which tokens they are, int64 (m,)
    groups:  int64 (G, 4), as `ops.Aligned` has them
    bytes, compared: the bytes of the student's targets, and those of them that are in groups
    """

    ids: Int64
    places: Int64
    targets: Int64
    groups: Int64
    bytes: int
    compared: int


@dataclass(frozen=True, eq=False)
class AlignedRows:
    """Makes the teacher's side of batches over the documents of `alignment`.

    A row of the student's is parts of documents one after the other. Of each part the teacher reads
    the groups that lie wholly in it; what its template puts around a text where the part has the
    document's begin or end; and its own end-of-text token where the student reads its own. A group
    is compared where both models have read something before it, with all tokens labelled: so that
    the first group of a row is read and not compared. The two end-of-text tokens are a group.
    `longest` is the number of tokens that the teacher can read: what is beyond is not compared.
    """

    alignment: Alignment
    teacher_eos: int
    longest: int

    def read(self, batch: Batch) -> AlignedBatch:
        """Raises ConfigError for a batch that does not say which documents it is of."""
        documents, positions = _extended(batch, self.alignment)
        rows = [
            self._row(documents[b], positions[b], batch.labels[b]) for b in range(len(batch.ids))
        ]
        width = max((row.reads for row in rows), default=0)
        ids = np.full((len(rows), max(width, 1)), self.teacher_eos, np.int64)
        length = batch.ids.shape[1]
        groups, places, targets = [], [], []
        for b, row in enumerate(rows):
            ids[b, : row.reads] = row.ids[: row.reads]
            found = row.groups  # (g, 4), in columns of the row
            tokens = _ranges(found[:, 2], found[:, 3])
            places.append(b * ids.shape[1] + tokens - 1)
            targets.append(row.ids[tokens])
            groups.append(found + np.array([b * length, 0, 0, 0]))
        joined = np.concatenate(groups) if groups else np.empty((0, 4), np.int64)
        joined[:, 2] = np.cumsum(joined[:, 3]) - joined[:, 3]
        return AlignedBatch(
            ids, np.concatenate(places), np.concatenate(targets), joined,
            sum(row.bytes for row in rows), sum(row.compared for row in rows),
        )  # fmt: skip

    def _row(self, documents: Int64, positions: Int64, labels: Int64) -> "_Row":
        row = _Row(labels, self.longest)
        starts = np.flatnonzero(np.diff(documents, prepend=-2))
        for start, stop in zip(
            starts.tolist(), [*starts[1:].tolist(), len(documents)], strict=True
        ):
            if documents[start] >= 0:
                part = _Part(int(documents[start]), start, int(positions[start]), stop - start)
                row.add(part, self.alignment, self.teacher_eos)
        return row


@dataclass(frozen=True)
class _Part:
    """`count` tokens of a document from its token `begin` on, which is in column `column`."""

    document: int
    column: int
    begin: int
    count: int

    @property
    def end(self) -> int:
        return self.begin + self.count


class _Row:
    """The teacher's tokens of one row, and its groups (g, 4): the student's first position and
    their number, the column of the teacher's first token and their number."""

    def __init__(self, labels: Int64, longest: int) -> None:
        self.ids = np.empty(0, np.int64)
        self.groups = np.empty((0, 4), np.int64)
        self.bytes = self.compared = 0
        self._longest = longest
        self._labelled = labels >= 0
        self._unlabelled = np.concatenate([[0], np.cumsum(labels < 0)])

    @property
    def reads(self) -> int:
        """How many of the tokens have to be read to predict those of the groups."""
        return int((self.groups[:, 2] + self.groups[:, 3] - 1).max(initial=0))

    def add(self, part: _Part, alignment: Alignment, eos: int) -> None:
        ours, theirs, known = alignment.document(part.document)
        ids = alignment.teacher.document(part.document)
        ends = np.concatenate([[0], alignment.ends_of(part.document)])
        whole = len(ends) - 1 < part.end  # with the end-of-text token
        low = min(int(np.searchsorted(ours, part.begin)), len(ours) - 1)
        high = max(int(np.searchsorted(ours, part.end, "right")) - 1, low)
        first = 0 if part.begin == 0 else int(theirs[low])
        last = len(ids) if whole else int(theirs[high])
        chosen = np.arange(low, high)[known[low:high]]
        groups = np.stack(
            [
                part.column + ours[chosen] - part.begin - 1,
                ours[chosen + 1] - ours[chosen],
                len(self.ids) + theirs[chosen] - first,
                theirs[chosen + 1] - theirs[chosen],
            ],
            axis=-1,
        ).astype(np.int64)
        sizes = ends[ours[chosen + 1]] - ends[ours[chosen]]
        read = [self.ids, ids[first:last]]
        if whole:
            column = part.column + len(ends) - 1 - part.begin
            end = [column - 1, 1, len(self.ids) + last - first, 1]
            groups, sizes = np.concatenate([groups, [end]]), np.append(sizes, 0)
            read.append(np.array([eos]))
        self.ids = np.concatenate(read)
        self._keep(groups, sizes)
        target = max(part.begin, part.begin + 1 - part.column)  # the row's first is no target
        sizes = np.diff(ends[target : part.end + 1])
        column = part.column + target - part.begin - 1
        self.bytes += int(sizes[self._labelled[column : column + len(sizes)]].sum())

    def _keep(self, groups: Int64, sizes: Int64) -> None:
        position, count, column, their_count = groups.T
        kept = (position >= 0) & (column >= 1) & (column + their_count - 1 <= self._longest)
        begin = np.maximum(position, 0)
        kept &= self._unlabelled[begin + count] == self._unlabelled[begin]
        self.groups = np.concatenate([self.groups, groups[kept]])
        self.compared += int(sizes[kept].sum())


def _extended(batch: Batch, alignment: Alignment) -> tuple[Int64, Int64]:
    """Documents and positions (B, T + 1) of the batch's tokens and of the last label of each row,
    −1 where there is none."""
    if batch.documents is None or batch.positions is None:
        raise ConfigError(
            f"a batch of {len(batch.ids)} rows that does not say which documents they are of",
            hint="take batches of `data.batches.Batches` over the documents that were aligned",
        )
    document, position = batch.documents[:, -1], batch.positions[:, -1]
    ended = position >= alignment.student.lengths[np.maximum(document, 0)]
    there = (batch.labels[:, -1] >= 0) & (document >= 0)
    after = np.where(there, document + ended, -1)
    at = np.where(there & ~ended, position + 1, 0)
    return (
        np.concatenate([batch.documents, after[:, None]], axis=1),
        np.concatenate([batch.positions, at[:, None]], axis=1),
    )


def _ranges(starts: Int64, counts: Int64) -> Int64:
    """starts[0], starts[0] + 1, … of each range, one after the other."""
    before = np.cumsum(counts) - counts
    return np.arange(int(counts.sum())) - np.repeat(before - starts, counts)
