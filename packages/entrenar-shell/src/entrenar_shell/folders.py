"""Where the shell keeps what it writes by itself."""

from __future__ import annotations

import os
from pathlib import Path

from entrenar_core.io import files
from entrenar_core.io.os_calls import storage_errors

__all__ = ["make_private_folder", "state_folder"]


def state_folder() -> Path | None:
    """`entrenar` below the XDG state folder, which may not exist yet; None for a user without a
    home."""
    for base, below in (("XDG_STATE_HOME", ""), ("HOME", ".local/state")):
        root = os.environ.get(base, "")
        if root.startswith("/"):
            return Path(root, below, "entrenar")
    return None


def make_private_folder(folder: Path) -> None:
    """Create a folder that is its owner's alone, and its parents.

    Raises StorageError where that is impossible.
    """
    files.make_folder(folder.parent)
    with storage_errors("create the folder", folder):
        try:
            files.os_calls.mkdir(folder, 0o700)
        except FileExistsError:
            if not folder.is_dir():
                raise
