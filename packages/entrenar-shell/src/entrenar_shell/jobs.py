"""The jobs of a shell: commands that run in the background."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from entrenar_common.errors import EntrenarError, NotFoundError, StorageError, UsageError
from entrenar_core.io import files
from entrenar_shell.command import PlainLine
from entrenar_shell.job import GRACE, Job
from entrenar_shell.places import state_folder

__all__ = ["Jobs"]

_KEPT = 200
"""Logs that are kept, of all shells: a new one takes the place of the oldest."""


class Jobs:
    """Jobs, numbered from 1. Their logs go to `folder`; by default, `jobs` in the state folder."""

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        self._all: list[Job] = []
        self._told: set[int] = set()

    def __iter__(self) -> Iterator[Job]:
        """The jobs in the order in which they were started."""
        return iter(self._all)

    def start(self, line: str, *, plain: Sequence[PlainLine], folder: str) -> Job:
        """Start a job that runs `plain` in `folder` for what was typed.

        Raises StorageError where its log or its process cannot be made.
        """
        number = len(self._all) + 1
        job = Job(number, line, plain=plain, folder=folder, log=self._new_log(number))
        self._all.append(job)
        return job

    def running(self) -> list[Job]:
        """The jobs that run."""
        return [job for job in self._all if job.running]

    def untold(self) -> list[Job]:
        """The jobs that have ended and were not given by `ended` yet."""
        return [job for job in self._all if job.number not in self._told and not job.running]

    def ended(self) -> list[Job]:
        """The jobs that have ended since this was asked last."""
        found = self.untold()
        self._told.update(job.number for job in found)
        return found

    def find(self, number: int | None = None) -> Job:
        """The job of that number; without one, the last that runs, else the last.

        Raises UsageError when there is none at all, NotFoundError for a number that no job has.
        """
        if not self._all:
            raise UsageError(
                "there are no jobs", hint="end a command with & to run it in the background"
            )
        if number is None:
            return (self.running() or self._all)[-1]
        if not 1 <= number <= len(self._all):
            raise NotFoundError(
                f"no job {number}", hint=f"there are jobs 1 to {len(self._all)}; see jobs"
            )
        return self._all[number - 1]

    def end(self, *, seconds: float = GRACE[0][1]) -> list[Job]:
        """Tell all to end, wait for `seconds` at most, and give those that run still."""
        running = self.running()
        for job in running:
            job.cancel()
        deadline = time.monotonic() + seconds
        return [job for job in running if job.wait(max(0.0, deadline - time.monotonic())) is None]

    def _new_log(self, number: int) -> Path:
        folder = self._folder
        if folder is None:
            state = state_folder()
            if state is None:
                raise StorageError(
                    "a job needs a place for its log, and there is no home folder",
                    hint="set XDG_STATE_HOME to a folder",
                )
            folder = state / "jobs"
        files.make_folder(folder, mode=0o700)
        _remove_old(folder)
        now = time.strftime("%Y%m%d-%H%M%S")
        return folder / f"{now}-{os.getpid()}-{number}.log"


def _remove_old(folder: Path) -> None:
    logs = sorted(folder.glob("*.log"))  # their names begin with the time
    for log in logs[: max(0, len(logs) - _KEPT + 1)]:
        with suppress(EntrenarError):  # another shell was faster
            files.remove_tree(log)
