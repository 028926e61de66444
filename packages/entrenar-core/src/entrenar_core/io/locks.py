"""A lock between processes, released by the kernel when its owner dies."""

import errno
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from entrenar_common.errors import CheckpointError
from entrenar_core.io.os_calls import os_calls, storage_errors

_OWNER_BYTES = 200


@contextmanager
def lock(path: str | os.PathLike[str]) -> Iterator[None]:
    """Holds the lock file `path` while the body runs.

    Raises CheckpointError, naming the owner, when another process holds it. The file itself stays:
    removing it would let two processes lock two different files of the same name.
    """
    path = Path(path)
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    with storage_errors("open the lock file", path):
        fd = os_calls.open(path, flags, 0o666)
    try:
        _acquire(fd, path)
        yield
    finally:
        os.close(fd)  # releases the lock


def _acquire(fd: int, path: Path) -> None:
    with storage_errors("lock", path):
        try:
            os_calls.flock_exclusive(fd)
        except OSError as error:
            if error.errno not in (errno.EWOULDBLOCK, errno.EAGAIN):
                raise
            raise CheckpointError(
                f"{path.parent}: in use by another run, locked by {_owner(fd)}",
                hint="wait for that run to end, or give this one an output folder of its own",
            ) from error
        os_calls.ftruncate(fd, 0)
        os_calls.write(fd, f"pid {os.getpid()} on {socket.gethostname()}\n".encode())


def _owner(fd: int) -> str:
    text = os.pread(fd, _OWNER_BYTES, 0).decode("ascii", "replace").strip()
    return text if text.isprintable() and text else "an unknown process"
