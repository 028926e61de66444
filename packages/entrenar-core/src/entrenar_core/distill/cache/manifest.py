"""The manifest of a cache: what it is about, how it was made, and a hash of each part's index.

It is written last, and a folder without it is no cache. Each index has a digest of each row, so the
manifest's checksum stands for all that is in the folder.
"""

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from entrenar_common.errors import EntrenarError, IntegrityError, NotFoundError, UnsupportedError
from entrenar_core.distill.cache.index import AGAIN
from entrenar_core.distill.cache.keys import Keys
from entrenar_core.distill.cache.row import RowForm
from entrenar_core.distill.cache.settings import Settings
from entrenar_core.io import files

MANIFEST, UNFINISHED = "manifest.json", "unfinished.json"
SCHEMA = "entrenar.teacher-cache/1"


@dataclass(frozen=True)
class Plan:
    """What a cache is to be: known before its first row. Its rows lie in parts of `part_rows`."""

    keys: Keys
    settings: Settings
    wide: bool
    part_rows: int

    @property
    def form(self) -> RowForm:
        """What its rows have in common."""
        settings = self.settings
        temperatures = len(settings.temperatures)
        return RowForm(self.keys.seq_len, temperatures, settings.precision, self.wide)

    @property
    def parts(self) -> list[range]:
        """The rows of each part."""
        rows, size = self.keys.rows, self.part_rows
        return [range(start, min(start + size, rows)) for start in range(0, rows, size)]

    def to_json(self) -> dict[str, Any]:
        """The plan as JSON."""
        return {"schema": SCHEMA, **json.loads(json.dumps(asdict(self)))}

    @classmethod
    def from_json(cls, record: Any, path: Path) -> "Plan":
        """The plan that was written to `path`. Raises IntegrityError, and UnsupportedError for
        another version's."""
        schema = record.get("schema") if isinstance(record, dict) else None
        if isinstance(schema, str) and schema != SCHEMA:
            raise UnsupportedError(
                f"{path}: is of {schema!a}, and this version reads {SCHEMA}",
                hint="make the cache again with this version",
            )
        try:
            settings = dict(record["settings"])
            settings["temperatures"] = tuple(settings["temperatures"])
            return cls(
                Keys(**record["keys"]), Settings(**settings), record["wide"], record["part_rows"]
            )
        except (AttributeError, KeyError, TypeError, EntrenarError) as error:
            raise IntegrityError(f"{path}: not a cache's manifest: {error}", hint=AGAIN) from error


@dataclass(frozen=True)
class Manifest:
    """A finished cache: its plan, and the SHA-256 of each index."""

    plan: Plan
    indices: tuple[str, ...]

    @property
    def fingerprint(self) -> str:
        """Equal for caches of which every byte is equal."""
        text = json.dumps(self._record(), sort_keys=True, allow_nan=False)
        return hashlib.sha256(text.encode()).hexdigest()

    def _record(self) -> dict[str, Any]:
        return {**self.plan.to_json(), "indices": list(self.indices)}

    def to_json(self) -> dict[str, Any]:
        """The manifest as JSON, with its fingerprint as the last key."""
        return {**self._record(), "fingerprint": self.fingerprint}


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a finished cache.

    Raises NotFoundError without one, IntegrityError for one that was altered, UnsupportedError.
    """
    path = folder / MANIFEST
    if not path.exists():
        begun = (folder / UNFINISHED).exists()
        what = "an unfinished cache" if begun else "no cache"
        raise NotFoundError(
            f"{folder}: holds {what} of a teacher's predictions",
            hint=f"{'go on with' if begun else 'make'} it by entrenar-distill cache",
        )
    record = files.read_json(path)
    plan = Plan.from_json(record, path)
    found = Manifest(plan, tuple(record.get("indices", ())))
    whole = len(found.indices) == len(plan.parts)
    if not whole or found.fingerprint != record.get("fingerprint"):
        raise IntegrityError(f"{path}: altered: its fingerprint does not match", hint=AGAIN)
    return found
