"""A teacher whose predictions are read from a disk."""

from entrenar_common.errors import ConfigError, IntegrityError
from entrenar_core.data.batches import Batch
from entrenar_core.distill.cache.expected import FromCache, check_divergence
from entrenar_core.distill.cache.folder import CacheFolder
from entrenar_core.distill.cache.keys import Keys
from entrenar_core.kernels.divergences import Divergence


class CachedTeacher:
    """The predictions in `folder`; a `Teacher` for the rows that they were made from.

    Rows are read from the disk when a batch has them, and each is compared with its digest and with
    the batch's ids.
    """

    def __init__(self, folder: CacheFolder) -> None:
        self.folder = folder

    def check(self, keys: Keys, divergence: Divergence) -> None:
        """Raise IntegrityError unless the cache is about what `keys` says, naming what differs,
        and ConfigError for a divergence or temperature that it was not made for."""
        check_divergence(divergence)
        different = self.folder.plan.keys.differences(keys)
        if different:
            raise IntegrityError(
                f"{self.folder.path}: the cache of the teacher's predictions is of something else",
                details=different,
                hint="make it again with this configuration: entrenar-distill cache",
            )
        stored = self.folder.plan.settings.temperatures
        if divergence.temperature not in stored:
            raise ConfigError(
                f"{self.folder.path}: the cache was made for temperatures "
                f"{', '.join(f'{t:g}' for t in stored)}, not for {divergence.temperature:g}",
                hint="take one of these, or make a cache with --temperature "
                f"{divergence.temperature:g}",
            )

    def expected(self, batch: Batch) -> FromCache:
        """Raises IntegrityError where the batch's rows are not those of the cache."""
        plan, rows = self.folder.plan, len(self.folder.index)
        if batch.row_ids.max(initial=-1) >= rows:
            raise IntegrityError(
                f"row {int(batch.row_ids.max())} of a cache of {rows} rows",
                hint="the cache was made from other rows: make it again",
            )
        return FromCache(
            batch,
            [self.folder.row(int(row_id)) for row_id in batch.row_ids],
            temperatures=plan.settings.temperatures,
            shared=plan.keys.shared,
        )
