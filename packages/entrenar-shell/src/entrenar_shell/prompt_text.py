"""What the prompt shows around the line that is typed (pure)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from entrenar_common.text import escape_controls
from entrenar_common.units import format_duration
from entrenar_shell.session import Session

__all__ = [
    "GREETING",
    "Running",
    "current_model",
    "held",
    "job_notice",
    "prompt_text",
    "toolbar",
]

GREETING = (
    "Entrenar Shell v{version} - Interactive Distillation Environment\n"
    "Type 'help' for commands, 'quit' to exit."
)


@dataclass(frozen=True)
class Running:
    """A job that runs, as the toolbar shows it: its line, and the last one that it printed."""

    number: int
    line: str
    progress: str


def current_model(session: Session) -> str | None:
    """The name of the model that commands use where none is given."""
    chosen = session.settings.get("model")
    if chosen is not None:
        named = [model.name for model in session.models.values() if model.source == chosen]
        return named[0] if named else chosen.rstrip("/").rpartition("/")[2]
    return next(reversed(session.models), None)


def prompt_text(session: Session) -> str:
    """What stands before the line that is typed.

    >>> prompt_text(Session("s", settings={"model": "/models/teacher"}))
    'entrenar [teacher]> '
    """
    model = current_model(session)
    return f"entrenar [{_short(model, 24)}]> " if model else "entrenar> "


def held(session: Session) -> str | None:
    """What a session that is gone on with has in it; None for a new one."""
    if not (session.models or session.settings or session.entries):
        return None
    parts = [_count(len(session.entries), "command")]
    if session.models:
        parts.append(f"{_count(len(session.models), 'model')} ({', '.join(session.models)})")
    if session.settings:
        parts.append(_count(len(session.settings), "setting"))
    return f"Session {session.name}: {', '.join(parts)}."


def toolbar(hint: str, session: Session, running: Iterable[Running]) -> list[str]:
    """The lines below: the syntax of what is being typed, if there is something to say; then the
    session, its models with a mark at the current one, and its jobs."""
    parts = [f"session {session.name}"]
    if session.models:
        current = current_model(session)
        names = (f"*{name}" if name == current else name for name in session.models)
        parts.append(f"models {', '.join(names)}")
    else:
        parts.append("no models")
    parts += [_job(job) for job in running]
    return [escape_controls(line) for line in (hint, " | ".join(parts)) if line]


def _job(job: Running) -> str:
    return f"job {job.number} {job.line.split()[0]}: {job.progress or 'starting'}"


def job_notice(number: int, line: str, *, code: int, seconds: float, cancelled: bool) -> str:
    """What is said when a job has ended."""
    shown = f"{_short(line, 60)} ({format_duration(seconds)})"
    if code == 0:
        return f"job {number} is done: {shown}"
    if cancelled:
        return f"job {number} was cancelled, code {code}: {shown}"
    return f"job {number} ended with code {code}: {shown}; 'log {number}' shows what it printed"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _short(text: str, width: int) -> str:
    text = escape_controls(text)
    return text if len(text) <= width else text[: max(0, width - 1)] + "…"
