"""A folder that appears under its name when all of it is on the disk, or not at all."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from entrenar_common.errors import RefusedError, StorageError
from entrenar_core.io import files


def check_new(path: Path) -> None:
    """Raise RefusedError where something is called `path` that is not an empty folder."""
    if path.is_symlink() or (path.exists() and not (path.is_dir() and not any(path.iterdir()))):
        raise RefusedError(
            f"{path}: exists already", hint="move it away, or give another output folder"
        )


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """The folder that the body fills, which is called `path` when the body has ended.

    Until then it has a temporary name that every reader ignores, and whatever goes wrong removes
    it. An empty folder of that name gives way. Raises RefusedError for any other, StorageError.
    """
    check_new(path)
    files.make_folder(path.parent)
    temporary = path.with_name(files.temporary_name(path.name))
    try:
        files.make_folder(temporary)
        yield temporary
        if path.is_dir():
            files.remove_tree(path)
        files.publish_folder(temporary, path)
    except BaseException:
        with suppress(StorageError):  # the first error is the one to report
            if temporary.exists():
                files.remove_tree(temporary)
        raise
