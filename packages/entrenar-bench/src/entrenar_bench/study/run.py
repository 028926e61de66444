"""Drives a study: gives its runs to worker processes and keeps what they answer."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import connection
from pathlib import Path

from entrenar_bench.study.energy import COUNTED, POWERCAP, SHARED, Counter, counters, was_alone
from entrenar_bench.study.leases import LeaseLost
from entrenar_bench.study.records import Lease, Status, Trial
from entrenar_bench.study.store import Study
from entrenar_bench.study.worker import Answer, Runner, Worker
from entrenar_common.errors import ConfigError, InterruptedRun
from entrenar_common.progress import NullProgress, Progress
from entrenar_core.train.process import stop_at_step_end

__all__ = ["Ended", "Outcome", "run_trials"]

_BEATS = 4
"""Heartbeats in the time that a lease lasts."""

_WAIT_SECONDS = 0.5
"""How often a driver looks whether it was asked to stop, or another driver's run was lost."""


@dataclass(frozen=True)
class Outcome:
    """How a study stands after it was driven: runs by what became of them, and why it stopped."""

    finished: int
    failed: int
    waiting: int
    stopped: str | None
    errors: tuple[str, ...]


@dataclass(frozen=True)
class Ended:
    """A run that has just ended: with metrics, or with an error where they are None; `left` runs of
    the study wait or are under way."""

    trial: Trial
    metrics: Mapping[str, float] | None
    error: str | None
    left: int


def _untold(_ended: Ended) -> None:
    """Say nothing of a run."""


class _Slot:
    """A worker and the run that it does, if any."""

    def __init__(
        self, runner: Runner, name: str, threads: int, counters: Sequence[Counter]
    ) -> None:
        self._runner, self._name, self._threads = runner, name, threads
        self._counters = counters
        self._worker: Worker | None = None
        self.lease: Lease | None = None
        self.beat = 0.0

    def begin(self, study: Study) -> bool:
        """Take the next run of the study; False where there is none."""
        worker = self._worker
        if worker is None or not worker.alive:
            self.stop()
            worker = self._worker = Worker(
                self._runner, name=self._name, threads=self._threads, counters=self._counters
            )
        self.lease = study.claim(worker.name)
        if self.lease is None:
            return False
        self.beat = time.monotonic()
        worker.start(self.lease.trial.config, self.lease.trial.seed)
        return True

    @property
    def waits_for(self) -> tuple:
        return self._worker.ready if self._worker and self.lease else ()

    def collect(self, study: Study) -> Ended | None:
        """Keep the answer if there is one, and say how its run ended."""
        answer = self._worker.answer() if self._worker and self.lease else None
        if answer is None or self.lease is None:
            return None
        lease, self.lease = self.lease, None
        _keep(study, lease, answer)
        counts = study.counts()
        measured = answer.measured and answer.measured.metrics
        left = counts[Status.WAITING] + counts[Status.RUNNING]
        return Ended(lease.trial, measured or None, answer.error, left)

    def keep_alive(self, study: Study) -> None:
        """Renew the lease when it is time; a run that was given to another is not gone on with."""
        every = study.lease_seconds / _BEATS
        if self.lease is None or time.monotonic() - self.beat < every:
            return
        self.beat = time.monotonic()
        try:
            self.lease = study.heartbeat(self.lease)
        except LeaseLost as error:
            study.notes.append(str(error))
            self.lease = None
            self.stop()

    def stop(self) -> None:
        """End the process, whatever it does."""
        if self._worker is not None:
            self._worker.stop()
            self._worker = None


def run_trials(
    study: Study,
    runner: Runner,
    *,
    jobs: int = 1,
    progress: Progress | None = None,
    told: Callable[[Ended], None] = _untold,
    powercap: Path = POWERCAP,
) -> Outcome:
    """Do the runs of `study` that wait, `jobs` at a time, each worker in a process of its own.

    `told` is called with each run that has ended. With one job a run gets `joules`, where the
    processor's counters in `powercap` can be read; the study is told where they cannot, and why.

    Other drivers may work on the same study: the end is reached when no run waits or is under way
    anywhere. A run that raises or whose process dies has failed, and the others go on.

    Raises InterruptedRun on SIGINT or SIGTERM, when the runs that were begun wait again;
    ConfigError for no jobs; and what the study raises where it cannot be written.
    """
    if jobs < 1:
        raise ConfigError(f"jobs is {jobs}", hint="use at least 1")
    progress = progress or NullProgress()
    host = f"{socket.gethostname()}:{os.getpid()}"
    threads = max(1, (os.cpu_count() or 1) // jobs)  # together as many as there are processors
    counts = study.counts()
    found = _counters(study, jobs, powercap) if counts[Status.WAITING] else ()
    slots = [_Slot(runner, f"{host} worker {i + 1}", threads, found) for i in range(jobs)]
    progress.start("runs", counts[Status.WAITING] + counts[Status.RUNNING])
    with stop_at_step_end() as stop, _given_back(study, slots):
        while not stop and _step(study, slots, progress, told):
            pass
    progress.finish()
    outcome = _outcome(study)
    if stop:
        raise InterruptedRun(
            f"{study.path}: stopped with {outcome.finished} runs finished, {outcome.waiting} wait",
            hint="run it again: finished runs are kept, and those that were begun go on",
        )
    return outcome


def _counters(study: Study, jobs: int, powercap: Path) -> tuple[Counter, ...]:
    """The counters of energy that are of use; the study keeps why there are none."""
    if jobs > 1:
        study.note_energy(f"not of {jobs} runs at a time, which counters cannot tell apart")
        return ()
    found, why = counters(powercap)
    study.note_energy(why or COUNTED)
    return found


def _step(
    study: Study, slots: list[_Slot], progress: Progress, told: Callable[[Ended], None]
) -> bool:
    """One round: give out runs, wait for something to happen, keep it. Whether to go on."""
    for slot in slots:
        if slot.lease is None and not slot.begin(study):
            break  # for the others there is nothing either
    busy = [slot for slot in slots if slot.lease is not None]
    if not busy:
        if study.stopped is not None or not study.counts()[Status.RUNNING]:
            return False
        time.sleep(_WAIT_SECONDS)
        return True
    timeout = min(study.lease_seconds / _BEATS, _WAIT_SECONDS)
    connection.wait([handle for slot in busy for handle in slot.waits_for], timeout)
    for slot in busy:
        ended = slot.collect(study)
        if ended is not None:
            progress.advance()
            told(ended)
        slot.keep_alive(study)
    return True


def _keep(study: Study, lease: Lease, answer: Answer) -> None:
    """Report an answer; one that comes too late is noted by the study and is none of its runs."""
    try:
        if answer.measured is None:
            study.fail(lease, answer.error or "no error was given")
        elif not answer.measured.metrics:
            study.fail(lease, "the runner returned no metrics")
        else:
            for step, metrics in answer.measured.steps:
                study.report(lease, step, metrics)
            study.finish(lease, _joules(study, lease, answer) | dict(answer.measured.metrics))
    except LeaseLost as error:
        study.notes.append(str(error))


def _joules(study: Study, lease: Lease, answer: Answer) -> dict[str, float]:
    """The energy of a run as a metric; none where it was not counted, or not of this run alone."""
    if answer.joules is None:
        return {}
    if not was_alone(study.attempts(), lease):
        study.note_energy(SHARED)
        return {}
    return {"joules": answer.joules}


@contextmanager
def _given_back(study: Study, slots: list[_Slot]) -> Iterator[None]:
    """Ends the workers after the body, and lets runs wait again that are not done by then."""
    try:
        yield
    finally:
        for slot in slots:
            slot.stop()
        for slot in slots:
            if slot.lease is not None:
                try:
                    study.give_back(slot.lease)
                except LeaseLost as error:
                    study.notes.append(str(error))


def _outcome(study: Study) -> Outcome:
    counts = study.counts()
    errors = {t.error: None for t in study.trials() if t.status is Status.FAILED and t.error}
    return Outcome(
        counts[Status.FINISHED],
        counts[Status.FAILED],
        counts[Status.WAITING],
        study.stopped,
        tuple(errors),
    )
