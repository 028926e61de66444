"""The workbench: a line of the shell carried out, from its words to its entry in the history."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click

from entrenar_common import outcome
from entrenar_common.cli import Command as ClickCommand
from entrenar_common.errors import UsageError
from entrenar_common.output import Output
from entrenar_shell.arguments import Quoted
from entrenar_shell.command import Command, PlainLine
from entrenar_shell.job import Job
from entrenar_shell.jobs import Jobs
from entrenar_shell.manner import Manner
from entrenar_shell.own import WORKBENCH
from entrenar_shell.request import Request
from entrenar_shell.session import Session
from entrenar_shell.settings import preference
from entrenar_shell.store import SessionStore
from entrenar_shell.streams import carried, system
from entrenar_shell.tools import tool
from entrenar_shell.words import Line, parse

__all__ = ["Asker", "Workbench"]

Asker = Callable[[str], bool]
"""Asks a person a question; whether the answer is yes."""

_PROGRAM = "entrenar-shell"


@dataclass
class _Work:
    """A line in work: what it stood for so far, what its last command found, and whether it gets
    an entry in the history."""

    line: str
    out: Output
    plain: list[PlainLine] = field(default_factory=list)
    record: Any = None
    kept: bool = True


class Workbench:
    """A session with everything that it takes to carry out lines.

    `asker` is None where nobody is there to answer: long work then needs `yes`. `store` is where
    sessions are kept, and `ended` says that this one was left.
    """

    def __init__(
        self,
        session: Session,
        *,
        asker: Asker | None = None,
        yes: bool = False,
        manner: Manner | None = None,
        jobs: Jobs | None = None,
        store: SessionStore | None = None,
    ) -> None:
        self.session = session
        self.asker = asker
        self.yes = yes
        self.manner = manner or Manner()
        self.jobs = jobs or Jobs()
        self.store = store or SessionStore(None)
        self.ended = False
        self._sources: list[str] = []
        self._work: _Work | None = None

    def run(self, line: str) -> int:
        """Carry out one line, print what comes of it, and give its exit code.

        Nothing is raised: errors are reported, Ctrl-C ends the line with 130, a bug with 70. What
        has words gets an entry in the session's history.
        """
        work = _Work(line.strip(), self.manner.output(self.session))
        started, began = time.time(), time.monotonic()
        above, self._work = self._work, work
        code = self._reported(lambda: self._line(work), work.out)
        self._work = above
        if work.kept and not _is_secret(work):
            self.record(
                work.line, work.plain, code=code, started=started,
                seconds=time.monotonic() - began, found=work.record,
            )  # fmt: skip
        return code

    def perform(self, name: str, words: Sequence[str]) -> int:
        """Carry out a plain command as a part of the line in work, and give its exit code."""
        assert self._work is not None
        from entrenar_shell.registry import find

        request = Request.of(find([name])[0], words)
        return self._run_all(request, request.lines(self.session), self._work)

    def record(
        self,
        line: str,
        plain: Sequence[PlainLine],
        *,
        code: int,
        started: float,
        seconds: float,
        found: Any = None,
    ) -> None:
        """Add what was done to the session's history; `found` is the record that it printed."""
        from entrenar_shell.entries import entry_of

        entries = self.session.entries
        number = entries[-1].number + 1 if entries else 1
        entry = entry_of(
            number, line, plain, code=code, started=started, seconds=seconds, found=found
        )
        entries.append(entry)

    def record_job(self, job: Job) -> None:
        """Add a job that has ended to the session's history."""
        assert job.code is not None
        self.record(job.line, job.plain, code=job.code, started=job.started, seconds=job.seconds)

    @property
    def out(self) -> Output:
        """What says something apart from a command's result."""
        return self.manner.output(self.session)

    def save(self) -> int:
        """Save the session where sessions are kept, and give 0; else report why not, and give that
        error's exit code."""
        out = self.out

        def save() -> int:
            self.store.save(self.session)
            return 0

        return self._reported(save, out)

    @contextlib.contextmanager
    def sourcing(self, file: str) -> Iterator[None]:
        """Carry out the lines of a file meanwhile; UsageError where that is being done already."""
        path = str(Path(file).expanduser().resolve())
        if path in self._sources:
            raise UsageError(
                f"{file}: sources itself", hint="take the command 'source' out of the file"
            )
        self._sources.append(path)
        try:
            yield
        finally:
            self._sources.pop()

    # ---- one line ------------------------------------------------------------------------------

    def _reported(self, run: Callable[[], int], out: Output) -> int:
        try:
            return outcome.of(run, out, _PROGRAM)
        except SystemExit as end:  # a command ends itself, not the shell
            return end.code if isinstance(end.code, int) else int(end.code is not None)

    def _line(self, work: _Work) -> int:
        line = parse(work.line)
        if line.system is not None:
            return system(line.system)
        if not line.words:
            work.kept = False
            return 0
        from entrenar_shell.registry import find  # the prompt is there before all commands are

        command, rest = find([Quoted(w.text) if w.quoted else w.text for w in line.words])
        if line.help or _asks_for_help(rest):
            from entrenar_shell.own_system import help_text

            click.echo(help_text(command))
            return 0
        if command.lower is None:
            if line.background:
                raise UsageError(
                    f"{' '.join(command.path)} is done at once", hint="leave the & out"
                )
            return carried(line, lambda: self._own(command, rest, work))
        return self._plain(command, rest, line, work)

    def _own(self, command: Command, words: Sequence[str], work: _Work) -> int:
        above = click.Context(ClickCommand(None))
        above.meta[WORKBENCH] = self
        name = " ".join(command.path)
        return command.grammar().main(
            list(words), name, standalone_mode=False, out=work.out, parent=above
        )

    # ---- what stands for command lines of the tools --------------------------------------------

    def _plain(self, command: Command, words: Sequence[str], line: Line, work: _Work) -> int:
        request = Request.of(command, words)
        lines = request.lines(self.session)
        if request.waits and self._wants_to_ask(request):
            answer = self._asked(request, work)
            if answer is not None:
                return answer
            lines = request.work(self.session)
        if line.background:
            return self._start(lines, work)
        return carried(line, lambda: self._run_all(request, lines, work))

    def _wants_to_ask(self, request: Request) -> bool:
        """Whether long work has to be agreed to: not where it was, or only its plan is wanted."""
        agreed = self.yes or preference("yes", self.session) == "on"
        return not agreed and not (self.asker is None and request.only_plan)

    def _asked(self, request: Request, work: _Work) -> int | None:
        """Show the plan and ask; the exit code where that is all, None where the work may begin."""
        if self.asker is None:
            raise UsageError(
                f"{request.name} takes long, and nobody is here who could be asked",
                hint=f"add --yes{', or --dry-run to see the plan' if request.has_plan else ''}",
            )
        if request.has_plan:
            code = self._run_all(request, request.plan(self.session), work)
            if code:
                return code
        if not self.asker(request.question):
            work.out.note("not started")
            return 0
        work.plain.clear()
        return None

    def _start(self, lines: Sequence[PlainLine], work: _Work) -> int:
        self._need_models(lines)
        job = self.jobs.start(work.line, plain=lines, folder=str(Path.cwd()))
        work.kept = False  # its entry comes when it has ended
        work.out.note(f"job {job.number} started; 'jobs' shows how far it is")
        return 0

    def _run_all(self, request: Request, lines: Sequence[PlainLine], work: _Work) -> int:
        """Run lines one after the other up to the first that does not succeed."""
        self._need_models(lines)
        out = work.out
        for line in lines:
            work.plain.append(line)
            out = self.manner.output(self.session)  # each has one result
            code = tool(line[0]).main(list(line[1:]), line[0], standalone_mode=False, out=out)
            work.record = out.record
            if code:
                return code
        if request.command.after is not None and work.record is not None:
            said = request.command.after(work.record, self.session)
            if said and not out.json:
                click.echo(said)
        return 0

    def _need_models(self, lines: Sequence[PlainLine]) -> None:
        """Raise NotFoundError where a loaded model that is meant is gone."""
        from entrenar_shell.described import need

        words = {word for line in lines for word in line}
        for model in self.session.models.values():
            if model.source in words:
                need(model)


def _is_secret(work: _Work) -> bool:
    """Whether a line must not be kept: a session is a file. What has become command lines of the
    tools holds no token, as none of them takes one."""
    from entrenar_shell.history_file import holds_secret

    return not work.plain and holds_secret(work.line)


def _asks_for_help(words: Sequence[str]) -> bool:
    return any(word in ("-h", "--help") and not isinstance(word, Quoted) for word in words)
