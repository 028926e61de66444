"""Sides of a benchmark as processes of their own, which work in turns as they are told to.

Commands go to a process as one JSON object a line on its standard input, answers come the same way
from its standard output. A worker says how much CPU time it used since the answer before, so that a
library whose threads spin is seen. Nothing here needs more than Python.
"""

import json
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

SETTLE = 0.05
"""Seconds between turns: long enough for the threads of the last one to stop waiting for more."""

ERROR_LINE = re.compile(r"[\w.]*(Error|Exception|Failed)\b.*:")
"""The line of a traceback that says what happened; advice may follow it."""

# ---- the side that asks ------------------------------------------------------------------------


class Process:
    """A worker started by `command`. `failed` says why it cannot be used."""

    def __init__(self, mode: str, command: Sequence[str], environment: Mapping[str, str]):
        self.mode = mode
        self.failed = ""
        self.errors = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")  # noqa: SIM115
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            env=environment,
            encoding="utf-8",
        )
        self._answer()

    def ask(self, do: str, **arguments: Any) -> dict[str, Any]:
        """Send a command and wait for its answer; {} once the process has failed."""
        if not self.failed:
            assert self.process.stdin is not None
            try:
                self.process.stdin.write(json.dumps({"do": do, **arguments}) + "\n")
                self.process.stdin.flush()
            except BrokenPipeError:
                pass  # the answer that does not come says so
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        if self.failed:
            return {}
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if line:
            return json.loads(line)
        self.process.communicate()
        self.errors.seek(0)
        said = [text.strip() for text in self.errors if text.strip()]
        raised = [text for text in said if ERROR_LINE.match(text)] or said
        self.failed = raised[-1] if raised else f"ended with {self.process.returncode}"
        return {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.communicate()  # an end of input ends it
        self.errors.close()


def in_turn(sides: Sequence[Process]) -> Iterator[Process]:
    """Each of `sides`, with time for the threads of the one before to come to rest."""
    for side in sides:
        time.sleep(SETTLE)
        yield side


def with_threads(count: int | None) -> dict[str, str]:
    """The workers' variables: the user's own, and the number of threads where it was asked for."""
    chosen = dict(os.environ)
    if count is not None:
        names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
        chosen.update(dict.fromkeys(names, str(count)))
    return chosen


# ---- the side that answers ---------------------------------------------------------------------


def serve(start: Callable[[], Mapping[str, Callable[..., dict[str, Any]]]]) -> None:
    """Be a worker: `start()` gives its commands by name, and every line is one of them."""
    # standard output is the driver's: what the libraries print goes to standard error
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    commands = {"peak": peak, **start()}
    answers.write("{}\n")
    answers.flush()
    wall, busy = time.perf_counter(), time.process_time()
    for line in sys.stdin:
        command = json.loads(line)
        waited = max(time.perf_counter() - wall, 1e-9)
        idle_cores = (time.process_time() - busy) / waited
        answer = commands[command.pop("do")](**command)
        wall, busy = time.perf_counter(), time.process_time()
        answers.write(json.dumps({**answer, "idle_cores": idle_cores, "waited": waited}) + "\n")
        answers.flush()


def peak() -> dict[str, Any]:
    """The most memory that this process, or a child of it that has ended, has used."""
    unit = 1 if sys.platform == "darwin" else 1024
    children = unit * resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    return {"bytes": max(_own_peak(unit), children)}


def _own_peak(unit: int) -> int:
    """Where Linux says it, since the figure of getrusage begins with that of the parent."""
    status = Path("/proc/self/status")
    if status.exists() and (found := re.search(r"VmHWM:\s+(\d+)", status.read_text())):
        return 1024 * int(found[1])
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
