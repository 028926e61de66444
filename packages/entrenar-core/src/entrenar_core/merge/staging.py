"""The hidden folder that a merge fills: a run that was cut off leaves it, and the next goes on.

Whatever is finished in it is known by a journal; a file that is not is written anew. It gets the
output's name when all of it is there.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from entrenar_common.errors import EntrenarError, InterruptedRun, StorageError
from entrenar_core.io import files
from entrenar_core.io.files import Written, sha256_file
from entrenar_core.io.locks import lock
from entrenar_core.io.new_folder import check_new

JOURNAL, LOCK = "merge-journal.json", "merge.lock"


class Staging:
    """`folder` is filled. `notes` is kept in the journal with the files: what has been found out so
    far."""

    def __init__(self, folder: Path, fingerprint: str) -> None:
        self.folder = folder
        self._fingerprint = fingerprint
        self._files: dict[str, dict[str, Any]] = {}
        self.notes: dict[str, Any] = {}
        self._take_over(_read(folder / JOURNAL))

    def _take_over(self, journal: Mapping[str, Any] | None) -> None:
        if journal is not None and journal.get("fingerprint") == self._fingerprint:
            for name, known in journal["files"].items():
                path = self.folder / name
                is_whole = path.is_file() and path.stat().st_size == known["size"]
                if is_whole and sha256_file(path) == known["sha256"]:
                    self._files[name] = known
            self.notes = dict(journal["notes"])
        for path in sorted(self.folder.iterdir()):
            if path.name not in {*self._files, JOURNAL, LOCK}:
                files.remove_tree(path)

    def has(self, path: Path) -> bool:
        """Whether a file is there, whole."""
        return path.name in self._files

    def add(self, path: Path, written: Written) -> None:
        """Make known that a file is finished."""
        self._files[path.name] = {"size": written.size, "sha256": written.sha256}
        files.write_json(
            self.folder / JOURNAL,
            {"fingerprint": self._fingerprint, "files": self._files, "notes": self.notes},
        )


@contextmanager
def staged(output: Path, fingerprint: str) -> Iterator[Staging]:
    """A folder that is called `output` when the body has ended. What an earlier body with the same
    `fingerprint` had finished is in it; a body that is cut off, or has no room on the disk, leaves
    what is finished, and one that fails leaves nothing.

    Raises RefusedError where `output` exists, CheckpointError where another process fills the
    folder, StorageError.
    """
    check_new(output)
    files.make_folder(output.parent)
    folder = output.with_name(f".{output.name}.merging")
    files.make_folder(folder)
    with lock(folder / LOCK):
        try:
            staging = Staging(folder, fingerprint)
            yield staging
        except (InterruptedRun, StorageError):
            raise
        except EntrenarError:
            files.remove_tree(folder)
            raise
        for name in (JOURNAL, LOCK):
            if (folder / name).exists():
                files.remove_tree(folder / name)
        if output.is_dir():
            files.remove_tree(output)
        files.publish_folder(folder, output)


def _read(path: Path) -> dict[str, Any] | None:
    """The journal; None where there is none that can be read."""
    if not path.is_file():
        return None
    try:
        found = files.read_json(path)
        known = {"fingerprint", "files", "notes"}
        return found if isinstance(found, dict) and found.keys() == known else None
    except EntrenarError:
        return None
