"""The system calls by which files are changed, gathered in one object that tests can make fail."""

import errno
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from entrenar_common.errors import NotFoundError, StorageError

_HINTS = {
    errno.ENOSPC: "free some space or choose an output folder on another disk",
    errno.EDQUOT: "your quota is used up: free some space or choose another folder",
    errno.EFBIG: "a file size limit is in force (see `ulimit -f`) or the filesystem's is reached",
    errno.EROFS: "the filesystem is mounted read-only: choose another output folder",
    errno.EACCES: "check the owner and permissions of the folder",
    errno.EPERM: "check the owner and permissions of the folder",
    errno.EIO: "the disk reported an error: check its health before trusting this folder",
    errno.ENOENT: "the folder does not exist or has vanished: create it or choose another",
    errno.ENOTDIR: "a part of this path is a file, not a folder",
    errno.EISDIR: "a folder with this name is in the way",
    errno.EEXIST: "something with this name is in the way: move it or choose another name",
    errno.ENOTEMPTY: "a folder with this name is in the way: move it or choose another name",
    errno.EMFILE: "too many files are open: raise the limit (`ulimit -n`)",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.ENOLCK: "this filesystem has no locks: choose a folder on a local disk",
}


def _fsync(fd: int) -> None:
    """fsync that reaches the platter on macOS too, where plain fsync stops at the drive's cache."""
    if sys.platform == "darwin":
        import fcntl

        fcntl.fcntl(fd, fcntl.F_FULLFSYNC)
    else:
        os.fsync(fd)


def _flock_exclusive(fd: int) -> None:
    import fcntl

    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)


@dataclass
class OsCalls:
    """Every call that changes a file or folder; a test replaces its fields to inject a fault."""

    open: Callable[..., int] = os.open
    write: Callable[..., int] = os.write
    fsync: Callable[[int], None] = _fsync
    close: Callable[[int], None] = os.close
    ftruncate: Callable[[int, int], None] = os.ftruncate
    replace: Callable[..., None] = os.replace
    rename: Callable[..., None] = os.rename
    mkdir: Callable[..., None] = os.mkdir
    unlink: Callable[..., None] = os.unlink
    rmdir: Callable[..., None] = os.rmdir
    chmod: Callable[..., None] = os.chmod
    flock_exclusive: Callable[[int], None] = _flock_exclusive


os_calls = OsCalls()


@contextmanager
def storage_errors(action: str, path: str | os.PathLike[str]) -> Iterator[None]:
    """Turns an OSError of the body into a StorageError that says what was done to which path; one
    for want of memory into a MemoryError."""
    try:
        yield
    except OSError as error:
        _check_memory(error, path)
        number = error.errno or 0
        reason = error.strerror or str(error)
        name = errno.errorcode.get(number, "no errno")
        raise StorageError(
            f"{os.fspath(path)}: cannot {action}: {reason} ({name})",
            hint=_HINTS.get(number, "check the disk and the folder, then run again"),
        ) from error


@contextmanager
def read_errors(path: str | os.PathLike[str]) -> Iterator[None]:
    """Turns an OSError of the body, which reads `path`, into NotFoundError or StorageError; one for
    want of memory into a MemoryError."""
    try:
        yield
    except FileNotFoundError as error:
        raise NotFoundError(f"{os.fspath(path)}: no such file", hint="check the path") from error
    except (PermissionError, NotADirectoryError, IsADirectoryError) as error:
        raise NotFoundError(
            f"{os.fspath(path)}: cannot be read: {error.strerror}",
            hint="check the path and its permissions",
        ) from error
    except OSError as error:
        _check_memory(error, path)
        raise StorageError(
            f"{os.fspath(path)}: cannot be read: {error.strerror}",
            hint=_HINTS.get(error.errno or 0, "check the disk"),
        ) from error


def _check_memory(error: OSError, path: str | os.PathLike[str]) -> None:
    if error.errno == errno.ENOMEM:  # as a file that is mapped has it: no fault of the disk
        raise MemoryError(f"{os.fspath(path)}: {error.strerror}") from error
