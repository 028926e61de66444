"""A study on a disk: runs that are each done once, by any number of drivers, and never lost.

    study = Study.create("kd.study", Plan(arms=(Arm("t4", {"t": 4}),), seeds=(0, 1, 2)))
    while lease := study.claim("worker 1"):
        study.finish(lease, {"loss": train(lease.trial.config, lease.trial.seed)})

One SQLite file holds everything; a JSONL file beside it repeats what happens.
"""

from __future__ import annotations

import json
import os
import sqlite3
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from types import TracebackType

from entrenar_bench.study import growth, leases, planning
from entrenar_bench.study.contents import Contents
from entrenar_bench.study.database import connect, sqlite_errors, transaction
from entrenar_bench.study.events import record
from entrenar_bench.study.leases import LeaseLost
from entrenar_bench.study.mirror import Mirror
from entrenar_bench.study.planning import Edited
from entrenar_bench.study.provenance import provenance
from entrenar_bench.study.records import Asked, Lease, Plan
from entrenar_common.errors import (
    ConfigError,
    FormatError,
    NotFoundError,
    RefusedError,
    StorageError,
)
from entrenar_core.io import files

__all__ = ["LEASE_SECONDS", "Study"]

LEASE_SECONDS = 120.0
"""A worker that is not heard of for so long has lost its run."""

Clock = Callable[[], float]


class Study(Contents):
    """An open study; close it, or use it in a `with`. One process and thread at a time has it, and
    others open the same file for themselves."""

    def __init__(
        self,
        path: Path,
        connection: sqlite3.Connection,
        *,
        clock: Clock = time.time,
        lease_seconds: float = LEASE_SECONDS,
    ) -> None:
        super().__init__(path, connection)
        self.notes = list[str]()
        self.lease_seconds, self._clock = lease_seconds, clock
        self._edited: Edited = "refuse"
        self._mirror = Mirror(path.with_name(path.name + ".jsonl"))

    @classmethod
    def create(
        cls,
        path: str | os.PathLike[str],
        plan: Plan,
        *,
        clock: Clock = time.time,
        lease_seconds: float = LEASE_SECONDS,
    ) -> Study:
        """A new study with all runs of `plan` waiting.

        Raises RefusedError where there is one already, ConfigError for a plan without runs or with
        runs that are the same, StorageError.
        """
        plan.check()
        path = Path(path)
        files.make_folder(path.parent)
        study = cls(path, connect(path, create=True), clock=clock, lease_seconds=lease_seconds)
        with study._closed_on_error():
            facts = json.dumps(asdict(provenance()))
            with study._writing():
                if planning.has_plan(study._connection):
                    raise RefusedError(
                        f"{path}: holds a study already",
                        hint="open it to go on, or choose another file",
                    )
                planning.store_plan(study._connection, plan, now=clock())
                planning.set_meta(study._connection, "provenance", facts)
        return study

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        plan: Plan | None = None,
        *,
        edited: Edited = "refuse",
        clock: Clock = time.time,
        lease_seconds: float = LEASE_SECONDS,
    ) -> Study:
        """The study at `path`; with a plan, its runs have to be the study's, or the edit allowed.

        `notes` say what was repaired, edited, or is another machine or version. Raises
        NotFoundError, FormatError for a file that is no study, and RefusedError for an edit that
        is not allowed.
        """
        path = Path(path)
        if not path.is_file():
            raise NotFoundError(f"{path}: no such study", hint="create it first")
        study = cls(path, connect(path), clock=clock, lease_seconds=lease_seconds)
        with study._closed_on_error():
            study._begin(plan, edited)
        return study

    def _begin(self, plan: Plan | None, edited: Edited) -> None:
        self._edited = edited
        if not planning.has_plan(self._connection):
            raise FormatError(
                f"{self.path}: has tables and no runs: it was cut off while it was created",
                hint="create the study again, in the same file",
            )
        with sqlite_errors(self.path):
            dropped = self._mirror.repair(self._connection)
        self.notes += [dropped] if dropped else []
        if plan is not None:
            plan.check()
            with self._writing():
                self.notes += planning.apply(
                    self._connection, plan, edited=edited, now=self._clock()
                )
        self.notes += provenance().differences(self.provenance)

    def close(self) -> None:
        """Let go of the file."""
        self._connection.close()

    def __enter__(self) -> Study:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    # ---- working on runs -----------------------------------------------------------------------

    def claim(self, worker: str) -> Lease | None:
        """The next run, for `worker` alone; None where no run waits or the study was stopped.

        Runs of workers that were not heard of in time are given out again.
        """
        with self._writing():
            leases.expire(self._connection, now=self._clock())
            return leases.begin(
                self._connection, worker, now=self._clock(), seconds=self.lease_seconds
            )

    def heartbeat(self, lease: Lease) -> Lease:
        """The lease with a later deadline. Raises LeaseLost where the run is another's by now."""
        with self._reporting(lease, "heartbeat"):
            return leases.extend(
                self._connection, lease, now=self._clock(), seconds=self.lease_seconds
            )

    def report(self, lease: Lease, step: int, metrics: Mapping[str, float]) -> None:
        """Keep metrics of a step; the same step again replaces them. Raises LeaseLost."""
        self.report_steps(lease, [(step, metrics)])

    def report_steps(self, lease: Lease, steps: Sequence[tuple[int, Mapping[str, float]]]) -> None:
        """The same of several steps, which cost one wait for the disk together: all are kept, or
        none. Raises LeaseLost."""
        if not steps:
            return
        run, token = lease.trial.run, lease.token
        with self._reporting(lease, "step"):
            self._connection.executemany(
                "INSERT OR REPLACE INTO steps VALUES (?, ?, ?, ?, ?)",
                [
                    (run, token, step, name, float(value))
                    for step, metrics in steps
                    for name, value in metrics.items()
                ],
            )
            for step, metrics in steps:
                data = {"run": run, "token": token, "step": step, "metrics": dict(metrics)}
                record(self._connection, self._clock(), "step", data)

    def finish(self, lease: Lease, metrics: Mapping[str, float]) -> None:
        """End a run with its metrics; NaN is one. Raises LeaseLost, ConfigError for no metrics."""
        if not metrics:
            raise ConfigError(
                f"run {lease.trial.run} ended without metrics", hint="return at least one number"
            )
        with self._reporting(lease, "finish"):
            leases.end(self._connection, lease, now=self._clock(), metrics=metrics)

    def fail(self, lease: Lease, error: str) -> None:
        """End a run with an error; it is not tried again until `retry_failed`.

        Raises LeaseLost.
        """
        with self._reporting(lease, "fail"):
            leases.end(self._connection, lease, now=self._clock(), error=error)

    def give_back(self, lease: Lease) -> None:
        """Let a run that was begun wait again, for this worker or another. Raises LeaseLost."""
        with self._reporting(lease, "give back"):
            leases.end(self._connection, lease, now=self._clock())

    def retry_failed(self) -> int:
        """Let failed runs wait again, and a stopped study go on; returns how many runs."""
        with self._writing():
            return leases.retry(self._connection, now=self._clock())

    def note_energy(self, text: str) -> None:
        """Keep how the energy of runs was counted, or why it was not."""
        with self._writing():
            planning.add_note(self._connection, "energy", text)

    # ---- growing -------------------------------------------------------------------------------

    def extend(self, plan: Plan, points: Asked) -> None:
        """Add the arms of `plan`, those so far and the new ones, that `points` have led to.

        Points that are there already change nothing. Raises RefusedError for others than the
        study's, unless it was opened to be edited, and ConfigError for a plan with a run twice.
        """
        plan.check()
        with self._writing():
            self.notes += growth.extend(
                self._connection, plan, points, edited=self._edited, now=self._clock()
            )

    def advance(self, rung: int, *, arms: Collection[str], seeds: Sequence[int]) -> bool:
        """From `rung`, let `arms` go on with `seeds` and prune the others; False where the study is
        past it, or runs of it are not over."""
        with self._writing():
            return growth.advance(self._connection, rung, arms=arms, seeds=seeds, now=self._clock())

    # ---- transactions --------------------------------------------------------------------------

    @contextmanager
    def _writing(self) -> Iterator[None]:
        with sqlite_errors(self.path):
            with transaction(self._connection):
                yield
            self._copy_events()

    def _copy_events(self) -> None:
        """What is in the study is done: that the mirror cannot have it yet is only noted."""
        try:
            self._mirror.catch_up(self._connection)
        except StorageError as error:
            note = f"{error.message}; it is written when the study is opened again"
            if note not in self.notes:
                self.notes.append(note)

    @contextmanager
    def _reporting(self, lease: Lease, what: str) -> Iterator[None]:
        """A transaction in which the lease is held; what comes late is kept as an event alone."""
        with self._writing():
            held = leases.is_held(self._connection, lease)
            if held:
                yield
            else:
                data = {"run": lease.trial.run, "token": lease.token, "worker": lease.worker}
                record(self._connection, self._clock(), "late", data | {"report": what})
        if not held:
            raise LeaseLost(
                f"{what} of run {lease.trial.run} by {lease.worker} came too late: its lease "
                f"{lease.token} has ended",
                hint="the report was not used; the run is another worker's, or done",
            )

    @contextmanager
    def _closed_on_error(self) -> Iterator[None]:
        try:
            yield
        except BaseException:
            self.close()
            raise
