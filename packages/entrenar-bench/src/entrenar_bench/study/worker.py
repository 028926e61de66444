"""A process that runs a runner: what it is given to do, and what it answers."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from multiprocessing import connection
from multiprocessing.connection import Connection
from typing import Any, Protocol

from entrenar_bench.study.energy import Counter, Meter
from entrenar_common.errors import EntrenarError

__all__ = ["Answer", "Measured", "Runner", "Worker"]


@dataclass(frozen=True)
class Measured:
    """What a run gave: its final metrics, and those of steps, each with its number."""

    metrics: Mapping[str, float]
    steps: Sequence[tuple[int, Mapping[str, float]]] = ()


class Runner(Protocol):
    """Does one run; it is sent to a process of its own, so it is a function of a module or an
    object of plain values."""

    def __call__(self, config: Mapping[str, Any], seed: int) -> Mapping[str, float] | Measured:
        """The metrics of a run of `config` with `seed`; whatever is raised is a failed run."""
        ...


@dataclass(frozen=True)
class Answer:
    """How a run ended: with what it measured, or an error in one line; `joules` of the machine
    meanwhile, where they were counted."""

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

    def answer(self) -> Answer | None:
        """The answer when there is one; None while the run goes on. A process that died gives an
        Answer too, whose error says how."""
        try:
            if self._ours.poll():
                return self._ours.recv()
        except (EOFError, ConnectionError):
            self._process.join()
        if self._process.is_alive():
            return None
        return Answer(None, _death(self._process.exitcode))

    @property
    def alive(self) -> bool:
        """Whether the process can be given a run."""
        return self._process.is_alive()

    def stop(self, *, grace: float = 5.0) -> None:
        """End the process: it is asked to, and after `grace` seconds it is killed."""
        self._ours.close()
        self._process.terminate()
        self._process.join(grace)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()


def _work(requests: Connection, runner: Runner, threads: int, counters: Sequence[Counter]) -> None:
    """The life of the process. Ctrl-C in a terminal reaches it too: its parent decides on that."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ.setdefault("NUMBA_NUM_THREADS", str(threads))  # read when numba is imported
    threading.Thread(target=_end_with_parent, daemon=True).start()
    while True:
        try:
            config, seed = requests.recv()
            requests.send(_metered(runner, config, seed, counters))
        except (EOFError, ConnectionError):  # the parent has gone
            return


def _metered(
    runner: Runner, config: Mapping[str, Any], seed: int, counters: Sequence[Counter]
) -> Answer:
    if not counters:
        return _run(runner, config, seed)
    meter = Meter(counters)
    return replace(_run(runner, config, seed), joules=meter.stop())


def _run(runner: Runner, config: Mapping[str, Any], seed: int) -> Answer:
    try:
        found = runner(config, seed)
        measured = found if isinstance(found, Measured) else Measured(found)
        return Answer(
            Measured(
                {str(name): float(value) for name, value in measured.metrics.items()},
                tuple((int(step), dict(values)) for step, values in measured.steps),
            )
        )
    except EntrenarError as error:
        return Answer(None, "; ".join([f"{error.code}: {error.message}", *error.details]))
    except Exception as error:  # a stranger's code: whatever it raises is how its run ended
        return Answer(None, " ".join(f"{type(error).__name__}: {error}".split()))


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
