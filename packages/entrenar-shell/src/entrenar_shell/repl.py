"""The shell on a terminal: it reads a line, has it carried out, and reads the next.

Ctrl-C ends what is typed or what runs, and the session goes on. Ctrl-D on an empty line leaves, as
`quit` does; while jobs run, both ask. A terminal that is closed, and SIGTERM, end what runs as
Ctrl-C does, then the jobs, and the session is saved all the same.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import TYPE_CHECKING, Protocol

from entrenar_shell.prompt_text import GREETING, held, job_notice
from entrenar_shell.statements import statements

if TYPE_CHECKING:
    from entrenar_common.output import Output
    from entrenar_shell.job import Job
    from entrenar_shell.jobs import Jobs
    from entrenar_shell.session import Session

__all__ = ["Bench", "Prompt", "Repl", "ask"]


class Prompt(Protocol):
    """What reads lines: see `prompt_terminal` and `prompt_plain`."""

    @property
    def reading(self) -> bool:
        """Whether a line is being typed and `close` ends that."""
        ...

    def read(self) -> str:
        """What is typed next; KeyboardInterrupt, EOFError and OSError say that it is nothing."""
        ...

    def close(self) -> None:
        """End the reading."""
        ...


class Bench(Protocol):
    """What carries out the lines: see `execute.Workbench`."""

    session: Session
    jobs: Jobs
    ended: bool

    @property
    def out(self) -> Output:
        """What says something beside what commands print."""
        ...

    def run(self, line: str) -> int:
        """Carry out a line, and give its exit code."""
        ...

    def record_job(self, job: Job) -> None:
        """Put a job that has ended into the history of the session."""
        ...


def ask(question: str) -> bool:
    """A question on the terminal that y or yes answers, and anything else denies."""
    sys.stderr.write(f"{question} [y/N]: ")
    sys.stderr.flush()
    answer = sys.stdin.readline()
    if not answer.endswith("\n"):
        sys.stderr.write("\n")
    return answer.strip().casefold() in {"y", "yes"}


class Repl:
    """Reads and carries out lines until the session ends; `prompt` makes what reads them, after
    the greeting is shown."""

    def __init__(self, bench: Bench, *, version: str) -> None:
        self._bench = bench
        self._version = version
        self._prompt: Prompt | None = None
        self._signal: signal.Signals | None = None

    def run(self, prompt: Callable[[Callable[[], None]], Prompt]) -> int:
        """The exit code: 0, or 128 and the number of the signal that ended it."""
        self._greet()
        with self._until_told_to_end():
            with suppress(KeyboardInterrupt):  # while the line editor was being loaded
                self._prompt = prompt(self._tell)
            while self._prompt is not None and not self._is_over():
                self._step(self._prompt)
            self._end_jobs()
        return 0 if self._signal is None else 128 + self._signal

    def _greet(self) -> None:
        out = self._bench.out
        for line in GREETING.format(version=self._version).split("\n"):
            out.note(line)
        found = held(self._bench.session)
        if found:
            out.note(found)

    def _is_over(self) -> bool:
        return self._signal is not None or (self._bench.ended and self._may_leave())

    def _step(self, prompt: Prompt) -> None:
        try:
            self._tell()
            text = prompt.read()
            for statement in statements(text):
                if statement.text.strip() and self._bench.run(statement.text):
                    return  # what was pasted after it may have counted on it
        except KeyboardInterrupt:
            return
        except (EOFError, OSError):  # Ctrl-D, or there is no terminal any more
            self._bench.ended = True

    # ---- jobs ----------------------------------------------------------------------------------

    def _tell(self) -> None:
        """Say which jobs have ended, and note them."""
        for job in self._bench.jobs.ended():
            self._bench.record_job(job)
            self._bench.out.note(
                job_notice(
                    job.number, job.line,
                    code=job.code or 0, seconds=job.seconds, cancelled=job.cancelled,
                )
            )  # fmt: skip

    def _may_leave(self) -> bool:
        """Whether no job runs, or a person says that they may end; else the session goes on."""
        running = self._bench.jobs.running()
        if not running:
            return True
        what = f"job {running[0].number} runs" if len(running) == 1 else f"{len(running)} jobs run"
        with suppress(KeyboardInterrupt):
            if ask(f"{what}: end and leave?"):
                return True
        self._bench.ended = False
        return False

    def _end_jobs(self) -> None:
        jobs = self._bench.jobs
        if jobs.running():
            with suppress(OSError):
                self._bench.out.note("ending the jobs; what is trained is saved first")
            with suppress(KeyboardInterrupt):
                jobs.end()
        for job in jobs.ended():
            self._bench.record_job(job)

    # ---- signals -------------------------------------------------------------------------------

    @contextmanager
    def _until_told_to_end(self) -> Iterator[None]:
        numbers = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
        before = {number: signal.signal(number, self._told_to_end) for number in numbers}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _told_to_end(self, number: int, _frame: FrameType | None) -> None:
        first, self._signal = self._signal is None, signal.Signals(number)
        if self._prompt is not None and self._prompt.reading:
            self._prompt.close()
        elif first:
            raise KeyboardInterrupt
