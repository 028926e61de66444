"""Making a cache: a part at a time, so that what was interrupted goes on where it stopped."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from entrenar_common.errors import NumericsError, RefusedError
from entrenar_common.progress import NullProgress, Progress
from entrenar_core.autograd.ops.linear_loss import CHUNK
from entrenar_core.data.batches import IGNORED, Batch, Batches
from entrenar_core.distill.cache.folder import CacheFolder
from entrenar_core.distill.cache.index import digest, index_name, index_type, rows_name
from entrenar_core.distill.cache.keys import Keys
from entrenar_core.distill.cache.manifest import MANIFEST, UNFINISHED, Manifest, Plan
from entrenar_core.distill.cache.row import NARROW, StoredRow
from entrenar_core.distill.cache.selection import select
from entrenar_core.distill.cache.settings import Settings
from entrenar_core.distill.teacher import LiveTeacher
from entrenar_core.io import files

PART_TOKENS = 2**18
"""Of a part, about: what is computed again after an interruption is less."""

_LEAST = -65504.0
"""The least number that float16 has: a logit so far below the highest has no probability."""


class CacheWriter:
    """Writes what `teacher` predicts for every row of `batches` to the folder `path`.

    Raises RefusedError for a folder that holds a finished cache, another one that is not finished,
    or anything else.
    """

    def __init__(
        self, path: Path, teacher: LiveTeacher, batches: Batches, *, keys: Keys, settings: Settings
    ) -> None:
        self.path, self.teacher, self.batches = path, teacher, batches
        wide = max(keys.shared, batches.highest_id + 1) > NARROW
        part_rows = max(1, PART_TOKENS // keys.seq_len)
        self.plan = Plan(keys, settings, wide, part_rows)
        self._check_folder()

    def estimate(self) -> int:
        """The bytes of the whole, from the first batch."""
        rows = range(min(self.batches.batch_size, self.plan.keys.rows))
        sizes = [len(data) for data, _ in self._encoded(rows)]
        each = sum(sizes) / len(sizes) + index_type(len(self.plan.settings.temperatures)).itemsize
        return round(each * self.plan.keys.rows)

    def write(self, *, progress: Progress | None = None) -> CacheFolder:
        """Make the cache, or what is missing of it; returns it as it is on the disk.

        Raises NumericsError where the teacher's logits are not finite, StorageError, and
        CheckpointError while another process writes there.
        """
        files.make_folder(self.path)
        with files.lock(self.path / ".lock"):
            self._check_folder()
            for left in self.path.glob(".*.tmp-*"):  # of a process that was killed
                files.remove_tree(left)
            files.write_json(self.path / UNFINISHED, self.plan.to_json())
            self._write_parts(progress or NullProgress())
            names = [self.path / index_name(part) for part in range(len(self.plan.parts))]
            manifest = Manifest(self.plan, tuple(files.sha256_file(name) for name in names))
            files.write_json(self.path / MANIFEST, manifest.to_json())
            files.remove_tree(self.path / UNFINISHED)
        return CacheFolder(self.path)

    @property
    def begun(self) -> int:
        """How many rows are there already."""
        return sum(len(rows) for part, rows in enumerate(self.plan.parts) if self._is_whole(part))

    def _is_whole(self, part: int) -> bool:
        return (self.path / index_name(part)).exists()

    def _write_parts(self, progress: Progress) -> None:
        progress.start("cache", self.plan.keys.rows)
        try:
            for part, rows in enumerate(self.plan.parts):
                if self._is_whole(part):
                    progress.advance(len(rows))
                else:
                    self._write_part(part, rows, progress)
        finally:
            progress.finish()

    def _write_part(self, part: int, rows: range, progress: Progress) -> None:
        kind = index_type(len(self.plan.settings.temperatures))
        entries, end = np.zeros(len(rows), kind), 0
        with files.open_atomic(self.path / rows_name(part)) as file:
            for entry, (data, row) in zip(entries, self._encoded(rows), strict=True):
                file.write(data)
                end += len(data)
                counted = row.counts > 0
                entry["end"], entry["digest"] = end, digest(data)
                entry["targets"], entry["kept"] = counted.sum(), row.counts.sum()
                entry["mass"] = -np.expm1(row.tails[:, counted].astype(np.float64)).sum(axis=1)
                progress.advance(ids=f"{row.counts.sum() / max(1, counted.sum()):.1f}")
        files.write_bytes(self.path / index_name(part), entries.tobytes())

    def _encoded(self, rows: range) -> Iterator[tuple[bytes, StoredRow]]:
        size = self.batches.batch_size
        for start in range(rows.start, rows.stop, size):
            ids = np.arange(start, min(start + size, rows.stop))
            for row in self._rows(self.batches.gather(ids)):
                yield row.packed(self.plan.form), row

    def _rows(self, batch: Batch) -> list[StoredRow]:
        """What is stored of the rows of a batch."""
        settings, (count, length) = self.plan.settings, batch.ids.shape
        expected = self.teacher.expected(batch)
        valid = np.flatnonzero(batch.labels.reshape(-1) != IGNORED)
        counts = np.zeros(count * length, np.int64)
        tails = np.zeros((len(settings.temperatures), count * length))
        ids, values = [np.empty(0, np.int32)], [np.empty(0, np.float32)]
        for start in range(0, count * length, CHUNK):
            chunk = slice(start, min(start + CHUNK, count * length))
            own = valid[(valid >= chunk.start) & (valid < chunk.stop)]
            if not len(own):
                continue
            logits = expected.logits(chunk)[own - start, : self.teacher.shared]
            self._check_finite(logits, batch)
            counts[own], chosen, kept, tails[:, own] = select(logits, settings)
            ids.append(chosen)
            values.append(np.maximum(kept, _LEAST, where=kept > -np.inf, out=kept))
        return _cut(batch, counts, np.concatenate(ids), np.concatenate(values), tails)

    def _check_finite(self, logits: np.ndarray, batch: Batch) -> None:
        if np.isfinite(logits.max(axis=-1)).all():
            return
        names = self.batches.names(batch.row_ids)
        raise NumericsError(
            f"the teacher's predictions are not finite in one of the documents {', '.join(names)}",
            hint="leave the document out (dataset.exclude), or repair the teacher",
        )

    def _check_folder(self) -> None:
        """Raise RefusedError unless the folder may be written to."""
        if (self.path / MANIFEST).exists():
            raise RefusedError(
                f"{self.path}: already holds a cache", hint="use it, or give another --output"
            )
        begun = self.path / UNFINISHED
        if begun.exists():
            other = Plan.from_json(files.read_json(begun), begun)
            different = other.keys.differences(self.plan.keys)
            if other.settings != self.plan.settings:
                different.append(f"settings: {other.settings} there, {self.plan.settings} here")
            if different or other != self.plan:
                raise RefusedError(
                    f"{self.path}: holds another cache that is not finished",
                    details=different,
                    hint="go on with that one's configuration, or give another --output",
                )
        elif self.path.exists() and any(p for p in self.path.iterdir() if p.name[0] != "."):
            raise RefusedError(
                f"{self.path}: is not empty and holds no cache",
                hint="give an empty or new folder as --output",
            )


def _cut(
    batch: Batch, counts: np.ndarray, ids: np.ndarray, values: np.ndarray, tails: np.ndarray
) -> list[StoredRow]:
    """What is stored of each row, from what is stored of all of a batch's positions."""
    length, found, begin = batch.ids.shape[1], [], 0
    for row, tokens in enumerate(batch.ids):
        own = slice(row * length, (row + 1) * length)
        end = begin + int(counts[own].sum())
        kept = slice(begin, end)
        found.append(StoredRow(tokens, counts[own], ids[kept], values[kept], tails[:, own]))
        begin = end
    return found
