"""One job: a command's plain lines, run after each other in a process of their own.

The process leads a session of its own, so that Ctrl-C at the prompt does not reach it. Its input is
a pipe that nobody writes to: it ends with the shell, however that ends, and the job then interrupts
itself (`job_process.py`), so no job outlives its shell.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from entrenar_common.text import escape_controls
from entrenar_core.io import files
from entrenar_core.io.os_calls import storage_errors
from entrenar_shell.command import PlainLine

__all__ = ["GRACE", "Job"]

GRACE = ((signal.SIGINT, 60.0), (signal.SIGTERM, 10.0), (signal.SIGKILL, 10.0))
"""The signals that end a job, and how many seconds it is given after each: a training saves its
checkpoint at the first."""

_TAIL = 8 * 2**10
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC


class Job:
    """A job that was started: `plain` is run in the folder `folder` for the typed `line`, and
    prints into the file `log`. `started` and `ended` are seconds since the epoch.

    Raises StorageError where the log or the process cannot be made.
    """

    def __init__(
        self, number: int, line: str, *, plain: Sequence[PlainLine], folder: str, log: Path
    ) -> None:
        self.number = number
        self.line = line
        self.plain = tuple(plain)
        self.folder = folder
        self.log = log
        self.started = time.time()
        self.ended: float | None = None
        self._ending: threading.Thread | None = None
        self._process = _start(self.plain, folder=folder, log=log)

    @property
    def code(self) -> int | None:
        """The exit code, that of a shell for a signal; None while it runs."""
        code = self._process.poll()
        if code is not None and self.ended is None:
            self.ended = time.time()
            if self._process.stdin:
                self._process.stdin.close()
        return code if code is None or code >= 0 else 128 - code

    @property
    def running(self) -> bool:
        """Whether it runs."""
        return self.code is None

    @property
    def cancelled(self) -> bool:
        """Whether it was told to end."""
        return self._ending is not None

    @property
    def seconds(self) -> float:
        """How long it has been running, or ran."""
        code = self.code  # notes the end
        return (time.time() if code is None or self.ended is None else self.ended) - self.started

    def progress(self) -> str:
        """The last line that it printed; empty before the first."""
        with suppress(OSError), self.log.open("rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - _TAIL))
            lines = file.read(_TAIL).decode(errors="replace").split("\n")
            return escape_controls(next((x.strip() for x in reversed(lines) if x.strip()), ""))
        return ""

    def wait(self, seconds: float | None = None) -> int | None:
        """Wait until it has ended, for `seconds` at most, and give its code."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(seconds)
        return self.code

    def cancel(self, *, grace: Sequence[tuple[signal.Signals, float]] = GRACE) -> None:
        """Tell it to end, and see in the background that it does; told twice, it waits for no
        checkpoint."""
        if not self.running:
            return
        if self._ending is not None:
            self._signal(signal.SIGTERM)
            return
        self._ending = threading.Thread(target=self._end, args=(grace,), daemon=True)
        self._ending.start()

    def _end(self, grace: Sequence[tuple[signal.Signals, float]]) -> None:
        for number, seconds in grace:
            self._signal(number)
            if self.wait(seconds) is not None:
                return

    def _signal(self, number: signal.Signals) -> None:
        if self.running:  # its group is then surely its own
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)


def _start(plain: Sequence[PlainLine], *, folder: str, log: Path) -> subprocess.Popen[bytes]:
    with storage_errors("create", log):
        printed = files.os_calls.open(log, _CREATE, 0o600)
    try:
        with storage_errors("start a job in", folder):
            return subprocess.Popen(
                _process_words(plain),
                stdin=subprocess.PIPE,
                stdout=printed,
                stderr=printed,
                cwd=folder,
                start_new_session=True,
            )
    finally:
        os.close(printed)


def _process_words(plain: Sequence[PlainLine]) -> list[str]:
    return [sys.executable, "-P", "-m", "entrenar_shell.job_process", json.dumps(plain)]
