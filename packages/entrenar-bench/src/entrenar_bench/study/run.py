"""Drives a study: gives its runs to worker processes and keeps what they answer."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import connection
from pathlib import Path

from entrenar_bench.study.energy import COUNTED, POWERCAP, SHARED, Counter, counters, was_alone
from entrenar_bench.study.leases import LeaseLost
from entrenar_bench.study.records import Lease, Status
from entrenar_bench.study.steps import Steps
from entrenar_bench.study.stopping import DriverStop
from entrenar_bench.study.store import Study
from entrenar_bench.study.watch import Ended, Watch
from entrenar_bench.study.worker import Answer, Runner, Worker
from entrenar_common.errors import ConfigError, InterruptedRun
from entrenar_core.train.process import stop_at_step_end

__all__ = ["Outcome", "run_trials"]

_BEATS = 4
"""Heartbeats in the time that a lease lasts."""

_WAIT_SECONDS = 0.5
"""How often a driver looks whether it was asked to stop, or another driver's run was lost."""

_GRACE_SECONDS = 5.0
"""So long workers may take to save what they have when they are asked to end."""

_HURRY_SECONDS = 0.05
"""How often it is looked meanwhile whether somebody is in a hurry."""


@dataclass(frozen=True)
class Outcome:
    """How a study stands after it was driven: runs by what became of them, and why it stopped."""

    finished: int
    failed: int
    waiting: int
    stopped: str | None
    errors: tuple[str, ...]


class _Slot:
    """A worker and the run that it does, if any."""

    def __init__(
        self, runner: Runner, name: str, threads: int, counters: Sequence[Counter]
    ) -> None:
        self._runner, self._name, self._threads = runner, name, threads
        self._counters = counters
        self.worker: Worker | None = None
        self.lease: Lease | None = None
        self.beat = 0.0
        self._kept = set[int]()  # steps of the run that the study has

    def begin(self, study: Study) -> Lease | None:
        """Take the next run of the study; None where there is none."""
        worker = self.worker
        if worker is None or not worker.alive:
            self.kill()
            worker = self.worker = Worker(
                self._runner, name=self._name, threads=self._threads, counters=self._counters
            )
        self.lease = study.claim(worker.name)
        if self.lease is not None:
            self.beat, self._kept = time.monotonic(), set()
            worker.start(self.lease.trial.config, self.lease.trial.seed)
        return self.lease

    @property
    def waits_for(self) -> tuple:
        return self.worker.ready if self.worker and self.lease else ()

    def collect(self, study: Study, watch: Watch) -> None:
        """Keep what the worker has sent, and say it."""
        if self.worker is None:
            return
        for message in self.worker.messages():
            lease = self.lease
            if lease is None:
                return
            try:
                if isinstance(message, Steps):
                    self._keep_steps(study, lease, message)
                    watch.stepped(lease.trial, message.steps)
                else:
                    self.lease = None
                    self._end(study, lease, message, watch)
            except LeaseLost as error:
                self._lose(study, lease, str(error), watch)
                return

    def _keep_steps(self, study: Study, lease: Lease, message: Steps) -> None:
        kept = [(step.number, step.metrics) for step in message.steps if step.metrics]
        if kept:
            study.report_steps(lease, kept)
            self._kept |= {number for number, _ in kept}

    def _end(self, study: Study, lease: Lease, answer: Answer, watch: Watch) -> None:
        if answer.measured is None and answer.error is None:
            study.give_back(lease)
            watch.gave_back(lease.trial)
            return
        metrics = answer.measured.metrics if answer.measured else None
        error = answer.error
        if metrics:
            assert answer.measured is not None  # it has the metrics
            new = [(n, found) for n, found in answer.measured.steps if n not in self._kept]
            if new:
                study.report_steps(lease, new)
            study.finish(lease, _joules(study, lease, answer) | dict(metrics))
        else:
            error = error or "the runner returned no metrics"
            study.fail(lease, error)
        counts = study.counts()
        left = counts[Status.WAITING] + counts[Status.RUNNING]
        watch.ended(Ended(lease.trial, metrics or None, error, left))

    def _lose(self, study: Study, lease: Lease, why: str, watch: Watch) -> None:
        """What comes too late is noted by the study and is none of its runs."""
        study.notes.append(why)
        watch.gave_back(lease.trial)
        if self.lease is not None:  # it is still being done
            self.lease = None
            self.kill()

    def keep_alive(self, study: Study, watch: Watch) -> None:
        """Renew the lease when it is time; a run that was given to another is not gone on with."""
        every = study.lease_seconds / _BEATS
        lease = self.lease
        if lease is None or time.monotonic() - self.beat < every:
            return
        self.beat = time.monotonic()
        try:
            self.lease = study.heartbeat(lease)
        except LeaseLost as error:
            self._lose(study, lease, str(error), watch)

    def kill(self) -> None:
        """End the process, whatever it does."""
        if self.worker is not None:
            self.worker.kill()
            self.worker = None


def run_trials(
    study: Study,
    runner: Runner,
    *,
    jobs: int = 1,
    watch: Watch | None = None,
    more: Callable[[Study], bool] | None = None,
    powercap: Path = POWERCAP,
) -> Outcome:
    """Do the runs of `study` that wait, `jobs` at a time, each worker in a process of its own.

    `watch` is told of each run that has begun, of its steps, and how it ended. Steps that a runner
    tells are kept as they come, so that runs which fail or are stopped have theirs too. `more` is
    asked when no run is left, and gives the study further ones, or says that there are none;
    workers stay for these. With one job a run gets `joules`, where the processor's counters in
    `powercap` can be read; the study is told where they cannot, and why.

    Other drivers may work on the same study: the end is reached when no run waits or is under way
    anywhere. A run that raises or whose process dies has failed, and the others go on.

    Raises InterruptedRun on SIGINT or SIGTERM, when the runs that were begun wait again; a second
    signal lets no run save what it has since its last checkpoint. Raises ConfigError for no jobs,
    and what the study raises where it cannot be written.
    """
    if jobs < 1:
        raise ConfigError(f"jobs is {jobs}", hint="use at least 1")
    watch = watch or Watch()
    host = f"{socket.gethostname()}:{os.getpid()}"
    threads = max(1, (os.cpu_count() or 1) // jobs)  # together as many as there are processors
    found = _counters(study, jobs, powercap) if study.counts()[Status.WAITING] else ()
    slots = [_Slot(runner, f"{host} worker {i + 1}", threads, found) for i in range(jobs)]
    stop = DriverStop()
    with stop_at_step_end(stop), _given_back(study, slots, stop):
        while not stop and (_step(study, slots, watch) or _grows(study, more)):
            pass
        if stop:
            watch.stopping()
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


def _step(study: Study, slots: list[_Slot], watch: Watch) -> bool:
    """One round: give out runs, wait for something to happen, keep it. Whether to go on."""
    for slot in slots:
        if slot.lease is None:
            lease = slot.begin(study)
            if lease is None:
                break  # for the others there is nothing either
            watch.began(lease.trial)
    busy = [slot for slot in slots if slot.lease is not None]
    if not busy:
        if study.stopped is not None or not study.counts()[Status.RUNNING]:
            return False
        time.sleep(_WAIT_SECONDS)
        return True
    timeout = min(study.lease_seconds / _BEATS, _WAIT_SECONDS)
    connection.wait([handle for slot in busy for handle in slot.waits_for], timeout)
    for slot in busy:
        slot.collect(study, watch)
        slot.keep_alive(study, watch)
    return True


def _grows(study: Study, more: Callable[[Study], bool] | None) -> bool:
    """Whether a study that has come to its end goes on; not one that was stopped by its errors."""
    return more is not None and study.stopped is None and more(study)


def _joules(study: Study, lease: Lease, answer: Answer) -> dict[str, float]:
    """The energy of a run as a metric; none where it was not counted, or not of this run alone."""
    if answer.joules is None:
        return {}
    if not was_alone(study.attempts(), lease):
        study.note_energy(SHARED)
        return {}
    return {"joules": answer.joules}


@contextmanager
def _given_back(study: Study, slots: list[_Slot], stop: DriverStop) -> Iterator[None]:
    """Ends the workers after the body, and lets runs wait again that are not done by then."""
    try:
        yield
    finally:
        _end_workers([slot for slot in slots if slot.worker is not None], stop)
        for slot in slots:
            if slot.lease is not None:
                try:
                    study.give_back(slot.lease)
                except LeaseLost as error:
                    study.notes.append(str(error))


def _end_workers(slots: list[_Slot], stop: DriverStop) -> None:
    """All of them at once: they have some time for that, unless somebody is in a hurry."""
    workers = [slot.worker for slot in slots if slot.worker is not None]
    for worker in workers:
        worker.ask_to_end()
    deadline = time.monotonic() + _GRACE_SECONDS
    for worker in workers:
        while worker.alive and not stop.hurried and time.monotonic() < deadline:
            worker.wait(_HURRY_SECONDS)
    for slot in slots:
        slot.kill()


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
