"""What a file or a folder was when a command read or wrote it, and whether it still is that."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from entrenar_common.errors import EntrenarError
from entrenar_core.io.os_calls import read_errors
from entrenar_shell.session import FileState

__all__ = ["files_in", "holds", "state_of"]


def files_in(folder: str | os.PathLike[str]) -> Iterator[Path]:
    """The files of a folder and of the folders in it, in the order of their names.

    What is hidden is left out: locks, and files that are being written. Links to files are files,
    as in the hub's cache; links to folders are not followed.
    """
    for where, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            path = Path(where, name)
            if not name.startswith(".") and path.is_file():
                yield path


def state_of(path: str | os.PathLike[str]) -> FileState:
    """The state of a file or a folder as it is now, with its absolute path.

    A folder has the bytes of all its files, and changed when the newest of them did; an empty one
    has the time of the folder itself. Raises NotFoundError when there is no such thing.
    """
    absolute = os.path.normpath(Path(path).absolute())
    with read_errors(absolute):
        found = Path(absolute).stat()
        if not stat.S_ISDIR(found.st_mode):
            return FileState(absolute, found.st_size, found.st_mtime_ns)
        inside = [file.stat() for file in files_in(absolute)]
    newest = max((file.st_mtime_ns for file in inside), default=found.st_mtime_ns)
    return FileState(absolute, sum(file.st_size for file in inside), newest)


def holds(state: FileState) -> bool:
    """Whether the path still has the bytes, by number and time, that it had then."""
    try:
        return state_of(state.path) == state
    except EntrenarError:
        return False
