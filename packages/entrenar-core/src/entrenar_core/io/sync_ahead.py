"""Syncing a file while it is being written, so that little is left to wait for at its end."""

import threading

from entrenar_core.io.os_calls import os_calls

EVERY = 32 * 2**20
"""Bytes after which a file is synced: some hundredths of a second on a disk that is not slow."""


class SyncAhead:
    """Syncs the file behind `fd`, one time after another, in a thread of its own.

    A failed sync must be known: the kernel tells it once, and a later sync succeeds. `grown` and
    `finish` raise its OSError. Whoever closes `fd` has to `wait` before.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._size = 0
        self._thread: threading.Thread | None = None
        self._error: OSError | None = None

    def grown(self, size: int) -> None:
        """Starts to sync if there is enough of the `size` bytes and the disk keeps up."""
        if size - self._size < EVERY or (self._thread is not None and self._thread.is_alive()):
            return
        self.finish()
        self._size = size
        self._thread = threading.Thread(target=self._sync, name="sync-ahead")
        try:
            self._thread.start()
        except RuntimeError:  # there is no memory for a thread: all of it is synced at the end
            self._thread = None

    def finish(self) -> None:
        """Waits, and raises what has failed."""
        self.wait()
        if self._error is not None:
            raise self._error

    def wait(self) -> None:
        """Waits for a sync that was started."""
        if self._thread is not None:
            self._thread.join()

    def _sync(self) -> None:
        try:
            os_calls.fsync(self._fd)
        except OSError as error:
            self._error = error
