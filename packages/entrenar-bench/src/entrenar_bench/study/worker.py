"""A process that runs a runner: what it is given to do, what it tells meanwhile and answers."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing import connection, resource_tracker
from multiprocessing.connection import Connection
from typing import Any, Protocol

from entrenar_bench.study.energy import Counter, Meter
from entrenar_bench.study.steps import Reporting, Steps, Teller
from entrenar_common.errors import EntrenarError, InterruptedRun

__all__ = ["Answer", "Measured", "Runner", "Worker"]


@dataclass(frozen=True)
class Measured:
    """What a run gave: its final metrics, and those of steps, each with its number."""

    metrics: Mapping[str, float]
    steps: Sequence[tuple[int, Mapping[str, float]]] = ()


class Runner(Protocol):
    """Does one run; it is sent to a process of its own, so it is a function of a module or an
    object of plain values. One that is `Reporting` too is asked to tell of its steps."""

    def __call__(self, config: Mapping[str, Any], seed: int) -> Mapping[str, float] | Measured:
        """The metrics of a run of `config` with `seed`; whatever is raised is a failed run."""
        ...


@dataclass(frozen=True)
class Answer:
    """How a run ended: with what it measured, or an error in one line; with neither where it was
    interrupted, and can go on. `joules` of the machine meanwhile, where they were counted."""

    measured: Measured | None
    error: str | None = None
    joules: float | None = None


class Worker:
    """A process with a runner, which does one run at a time.

    Nothing is inherited from the parent but what is sent: its threads and locks could be in any
    state. The process ends when its parent has died. Compiled kernels use `threads` threads there,
    unless NUMBA_NUM_THREADS says otherwise. `counters` are read while a run is done.
    """

    def __init__(
        self, runner: Runner, *, name: str, threads: int, counters: Sequence[Counter] = ()
    ) -> None:
        context = multiprocessing.get_context("spawn")
        self._ours, theirs = context.Pipe()
        given = (theirs, runner, threads, tuple(counters))
        self._process = context.Process(target=_work, args=given, name=name)
        with _interrupts_blocked():
            self._process.start()
        theirs.close()
        self.name = f"{name} (pid {self._process.pid})"

    @property
    def ready(self) -> tuple[Any, ...]:
        """What `multiprocessing.connection.wait` can wait for."""
        return self._ours, self._process.sentinel

    def start(self, config: Mapping[str, Any], seed: int) -> None:
        """Begin a run."""
        self._ours.send((dict(config), seed))

    def messages(self) -> Iterator[Steps | Answer]:
        """What it has sent and was not asked for yet, in order; an Answer is the end of the run. A
        process that died gives an Answer too, whose error says how."""
        dead = not self._process.is_alive()  # asked first: what it sent before is there
        try:
            while self._ours.poll():
                found = self._ours.recv()
                yield found
                if isinstance(found, Answer):
                    return
        except (EOFError, ConnectionError):
            self._process.join()
            dead = True
        if dead:
            yield Answer(None, _death(self._process.exitcode))

    @property
    def alive(self) -> bool:
        """Whether the process can be given a run."""
        return self._process.is_alive()

    def ask_to_end(self) -> None:
        """Let the process save what it has and end; it is not heard of any more."""
        self._ours.close()
        self._process.terminate()

    def wait(self, seconds: float) -> None:
        """Until the process has ended, or so long."""
        self._process.join(seconds)

    def kill(self) -> None:
        """End the process, whatever it does."""
        self._ours.close()
        if self._process.is_alive():
            self._process.kill()
        self._process.join()


def _work(requests: Connection, runner: Runner, threads: int, counters: Sequence[Counter]) -> None:
    """The life of the process."""
    os.environ.setdefault("NUMBA_NUM_THREADS", str(threads))  # read when numba is imported
    threading.Thread(target=_end_with_parent, daemon=True).start()
    while True:
        try:
            config, seed = requests.recv()
            teller = Teller(requests.send)
            meter = Meter(counters) if counters else None
            answer = _run(runner, config, seed, teller)
            teller.flush()
            requests.send(answer if meter is None else replace(answer, joules=meter.stop()))
        except (EOFError, ConnectionError):  # the parent has gone
            return


def _run(runner: Runner, config: Mapping[str, Any], seed: int, teller: Teller) -> Answer:
    try:
        run: Any = runner.reporting(teller) if isinstance(runner, Reporting) else runner
        found = run(config, seed)
        measured = found if isinstance(found, Measured) else Measured(found)
        return Answer(
            Measured(
                {str(name): float(value) for name, value in measured.metrics.items()},
                tuple((int(step), dict(values)) for step, values in measured.steps),
            )
        )
    except InterruptedRun:  # a signal reached this process alone, or before its parent's was seen
        return Answer(None)
    except EntrenarError as error:
        return Answer(None, "; ".join([f"{error.code}: {error.message}", *error.details]))
    except Exception as error:  # a stranger's code: whatever it raises is how its run ended
        return Answer(None, " ".join(f"{type(error).__name__}: {error}".split()))


@contextmanager
def _interrupts_blocked() -> Iterator[None]:
    """Processes that are started in the body never see SIGINT, from their first moment on.

    Ctrl-C in a terminal reaches them too, and it is their parent who decides on that: training
    would end at once, and before it has its own handlers Python would print where it was.
    """
    resource_tracker.ensure_running()  # which is started with the first one, and unblocks signals
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None  # this is a child
    connection.wait([parent.sentinel])
    os.kill(os.getpid(), signal.SIGTERM)


def _death(code: int | None) -> str:
    if code is not None and code < 0:
        name = signal.Signals(-code).name
        return f"the worker's process was killed by {name}" + (
            ": out of memory?" if name == "SIGKILL" else ""
        )
    return f"the worker's process ended with exit code {code}"
