"""How a shell begins and ends: its session, what it reads its lines from, and what is saved."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from entrenar_common.errors import UsageError
from entrenar_common.output import Output
from entrenar_shell import __version__
from entrenar_shell.execute import Workbench
from entrenar_shell.manner import Manner
from entrenar_shell.places import sessions_folder
from entrenar_shell.script import lines_of_file, lines_of_stream, run_lines
from entrenar_shell.session import Session
from entrenar_shell.settings import preference
from entrenar_shell.store import SessionStore

if TYPE_CHECKING:
    from entrenar_shell.repl import Prompt

__all__ = ["Start", "begin"]


@dataclass(frozen=True)
class Start:
    """What was asked for: see the options of the command line. `kept` is false for --no-history,
    and `interactive` says whether a person sits at both ends."""

    script: str | None = None
    lines: tuple[str, ...] = ()
    yes: bool = False
    keep_going: bool = False
    session: str | None = None
    resume: bool = False
    kept: bool = True
    interactive: bool = False

    @property
    def prompts(self) -> bool:
        """Whether lines are typed at a prompt."""
        return self.interactive and self.script is None and not self.lines


def begin(start: Start, out: Output) -> int:
    """Carry out what was asked for, or prompt for it; the exit code.

    Raises UsageError for options that exclude each other, and what opening the session or the
    script raises.
    """
    _check(start)
    store = SessionStore(sessions_folder() if start.kept else None)
    try:
        bench = Workbench(
            _session(start, store, out), yes=start.yes, manner=Manner.of(out), store=store
        )
        return _prompting(start, bench) if start.prompts else _carrying_out(start, bench)
    finally:
        store.close()


def _check(start: Start) -> None:
    if start.script is not None and start.lines:
        raise UsageError("a script and -c exclude each other", hint="write: -c 'source FILE'")
    if start.resume and (start.session is not None or not start.kept):
        other = "--session" if start.session is not None else "--no-history"
        raise UsageError(f"--resume and {other} exclude each other", hint="give one of them")


def _session(start: Start, store: SessionStore, out: Output) -> Session:
    """The session that is gone on with, or a new one; a script has one only if it was named."""
    name = store.newest() if start.resume else start.session
    if start.resume and name is None:
        out.note("no session was saved yet: this is a new one")
    if name is not None and start.kept:
        opened = store.open(name)
    elif start.prompts and start.kept:
        opened = store.start(_today())
    else:
        return Session(name or "unnamed")
    for note in opened.notes:
        out.warn(note)
    return opened.session


def _today() -> str:
    import datetime

    return f"{datetime.date.today():%Y-%m-%d}"


def _carrying_out(start: Start, bench: Workbench) -> int:
    code = run_lines(bench, _lines(start), keep_going=start.keep_going)
    for job in bench.jobs.running():  # nothing that was begun is left behind
        job.wait()
    for job in bench.jobs.ended():
        code = code or job.code or 0
        bench.record_job(job)
    return code or bench.save()


def _prompting(start: Start, bench: Workbench) -> int:
    from entrenar_shell.repl import Repl, ask

    bench.asker = ask

    def prompt(tell: Callable[[], None]) -> Prompt:
        try:
            return _prompt(start, bench, tell)
        finally:
            gc.enable()

    code = Repl(bench, version=__version__).run(prompt)
    saved = bench.save()
    if saved == 0 and bench.store.path:
        bench.out.note(f"Session saved to {bench.store.path}; --resume goes on with it")
    return code or saved


def _prompt(start: Start, bench: Workbench, tell: Callable[[], None]) -> Prompt:
    """What reads the lines, as the terminal can show it."""
    from entrenar_common.console import is_terminal, wants_color
    from entrenar_shell.history_file import HistoryFile, history_path

    typed = HistoryFile(history_path() if start.kept else None, warn=bench.out.warn)

    def keep() -> bool:
        return preference("history", bench.session) == "on"

    if not is_terminal(sys.stdout):
        from entrenar_shell.prompt_plain import PlainPrompt

        return PlainPrompt(lambda: bench.session, history=typed, keep=keep)
    from entrenar_shell.prompt_terminal import TerminalPrompt  # loads the line editor
    from entrenar_shell.prompt_world import SessionWorld

    return TerminalPrompt(
        lambda: bench.session,
        world=SessionWorld(lambda: bench.session, bench.jobs),
        jobs=bench.jobs,
        tell=tell,
        history=typed,
        keep=keep,
        color=wants_color(sys.stdout, color=bench.out.color),
    )


def _lines(start: Start) -> Iterable[str]:
    if start.lines:
        return start.lines
    return lines_of_stream() if start.script in (None, "-") else lines_of_file(start.script)
