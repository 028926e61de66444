"""A finished cache in a folder, of which rows are read one at a time."""

from pathlib import Path

import numpy as np

from entrenar_common.errors import IntegrityError
from entrenar_core.distill.cache.index import (
    AGAIN,
    check_size,
    digest,
    index_name,
    joined,
    read_index,
    rows_name,
)
from entrenar_core.distill.cache.manifest import read_manifest
from entrenar_core.distill.cache.row import StoredRow
from entrenar_core.io import files
from entrenar_core.io.mapped_file import MappedFile


class CacheFolder:
    """The rows of the cache in the folder `path`.

    Only the indices are kept in memory; a row is read from its file when it is asked for, and
    compared with its digest. Raises NotFoundError where there is no finished cache, IntegrityError
    where a file was cut or altered, UnsupportedError.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        manifest = read_manifest(path)
        self.plan, self.fingerprint = manifest.plan, manifest.fingerprint
        count = len(self.plan.settings.temperatures)
        parts = []
        for part, (rows, sha256) in enumerate(zip(self.plan.parts, manifest.indices, strict=True)):
            parts.append(read_index(path, part, rows=len(rows), temperatures=count))
            if files.sha256_file(path / index_name(part)) != sha256:
                raise IntegrityError(f"{path / index_name(part)}: altered", hint=AGAIN)
        self.index = joined(parts)

    def row(self, row_id: int) -> StoredRow:
        """What is stored of the row. Raises IntegrityError for one that was altered."""
        part, place = divmod(row_id, self.plan.part_rows)
        path = self.path / rows_name(part)
        begin = int(self.index["end"][row_id - 1]) if place else 0
        end = int(self.index["end"][row_id])
        check_size(path, int(self.index["end"][self.plan.parts[part][-1]]))
        file = MappedFile(path, "a cache")
        data = file.head(end - begin, begin)
        file.close()
        if not np.array_equal(digest(data), self.index["digest"][row_id]):
            raise IntegrityError(f"{path}: row {row_id} was altered", hint=AGAIN)
        return StoredRow.unpacked(data, self.plan.form, where=f"{path}: row {row_id}")

    @property
    def size(self) -> int:
        """The bytes of its rows and indices."""
        ends = self.index["end"][[rows[-1] for rows in self.plan.parts]]
        return int(ends.sum()) + self.index.nbytes
