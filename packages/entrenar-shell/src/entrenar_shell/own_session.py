"""The commands about sessions: saving, loading, listing, deleting, exporting and replaying them."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import click

from entrenar_common.cli import EXIT_FINDING, Output, common_options
from entrenar_common.cli import Command as ClickCommand
from entrenar_common.errors import StorageError
from entrenar_common.tables import Fields, Table, Text
from entrenar_common.units import format_bytes
from entrenar_shell.command import Command
from entrenar_shell.own import workbench
from entrenar_shell.session import Session
from entrenar_shell.store import Kept, SessionStore, check_name

__all__ = ["COMMANDS", "SessionHolder"]


class SessionHolder(Protocol):
    """What these commands need of the workbench: its session, which one of them replaces, and
    where sessions are kept."""

    session: Session
    store: SessionStore


def _holder() -> SessionHolder:
    return workbench()


@dataclass(frozen=True)
class Current:
    """The session that the shell goes on with."""

    session: str
    entries: int
    models: int
    settings: int
    file: str | None

    def __view__(self) -> list[Any]:
        items = [
            ("session", self.session),
            ("commands", self.entries),
            ("models", self.models),
            ("settings", self.settings),
            ("file", self.file or "none: it is not kept"),
        ]
        return [Fields(None, items)]


def _current(holder: SessionHolder) -> Current:
    session, store = holder.session, holder.store
    kept = store.folder is not None and store.kept
    file = str(store.folder / f"{session.name}.json") if kept and store.folder else None
    counts = len(session.entries), len(session.models), len(session.settings)
    return Current(session.name, *counts, file)


@dataclass(frozen=True)
class Listed:
    """The sessions that are kept, the one that was saved last first."""

    folder: str | None
    sessions: tuple[Kept, ...]

    def __view__(self) -> list[Any]:
        if not self.sessions:
            return [Text(f"No session is kept in {self.folder}." if self.folder else "None.")]
        rows = [
            [kept.name, _date(kept.saved), kept.entries, kept.models, format_bytes(kept.size),
             Text(kept.problem or "", "bad" if kept.problem else "")]
            for kept in self.sessions
        ]  # fmt: skip
        return [Table("Sessions", ["Name", "Saved", "Commands", "Models", "Size", "Problem"], rows)]


def _date(seconds: float) -> str:
    return datetime.datetime.fromtimestamp(seconds).strftime("%Y-%m-%d %H:%M")


@dataclass(frozen=True)
class Deleted:
    """A session that is no longer kept."""

    session: str


@click.command("save", cls=ClickCommand)
@click.argument("name", required=False)
@common_options
def _save(out: Output, name: str | None) -> None:
    """Save this session now; with NAME, under that name, which it goes on with.

    It is saved when the shell ends, too. A session of that name is not replaced.

    \b
    Examples:
      session save
      session save distillation
    """
    holder = _holder()
    if name is not None:
        holder.store.save_as(holder.session, name)
    elif not holder.store.save(holder.session):
        raise StorageError(
            "this session is not kept: there is no place for it, or it cannot be written",
            hint="set XDG_DATA_HOME to a folder of yours, or write a script: session export FILE",
        )
    out.emit(_current(holder), schema="entrenar.shell.session-save/1")


@click.command("load", cls=ClickCommand)
@click.argument("name")
@common_options
def _load(out: Output, name: str) -> None:
    """Go on with a session that was kept; the one that is open is saved first.

    Nothing in it is run. One that is open in another shell is continued as a copy.

    \b
    Examples:
      session load distillation
    """
    holder = _holder()
    check_name(name)
    holder.store.peek(name)  # so that what cannot be read leaves this session open
    holder.store.save(holder.session)
    opened = holder.store.open(name)
    for note in opened.notes:
        out.warn(note)
    holder.session = opened.session
    out.emit(_current(holder), schema="entrenar.shell.session-load/1")


@click.command("list", cls=ClickCommand)
@common_options
def _list(out: Output) -> None:
    """List the sessions that are kept, the one that was saved last first."""
    store = _holder().store
    folder = None if store.folder is None else str(store.folder)
    out.emit(Listed(folder, tuple(store.sessions())), schema="entrenar.shell.session-list/1")


@click.command("delete", cls=ClickCommand)
@click.argument("name")
@common_options
def _delete(out: Output, name: str) -> None:
    """Delete a session that was kept. What its commands have written stays."""
    _holder().store.delete(name)
    out.emit(Deleted(name), schema="entrenar.shell.session-delete/1")


@click.command("export", cls=ClickCommand)
@click.argument("file", type=click.Path())
@click.option("--session", "name", metavar="NAME", help="One that is kept, not this one.")
@click.option("--force", is_flag=True, help="Replace the file.")
@common_options
def _export(out: Output, file: str, name: str | None, force: bool) -> None:
    """Write the session's work as a script: FILE.sh for bash, FILE.py for Python.

    The script first checks that the files that were read are the same, by their SHA-256. It writes
    into the folder that it is given, else into the one that it is run in. Commands that failed are
    left out, as comments; those about the session itself too.

    \b
    Examples:
      session export work.sh
      session export work.py --force
    """
    from entrenar_shell.export import export

    found = export(_named(name), file, replace=force, progress=out.progress())
    for path in found.changed:
        out.warn(f"{path}: is not what the session has read; the script checks what it is now")
    out.emit(found, schema="entrenar.shell.session-export/1")


@click.command("replay", cls=ClickCommand)
@click.argument("name", required=False)
@click.option("--check", is_flag=True, help="Compare with what the session has written.")
@click.option(
    "--into",
    type=click.Path(),
    metavar="FOLDER",
    help="New folder for what is written.  [default: NAME-replay]",
)
@common_options
def _replay(out: Output, name: str | None, check: bool, into: str | None) -> int | None:
    """Run the commands of a session again, this one or NAME, and compare what they write.

    All that they write goes into a folder of its own. Weights, adapters, exported models and
    tokenizers have to be the same byte for byte, reports apart from timings and paths. Ends with 1
    if anything is not, or if a command ends otherwise than it did.

    \b
    Examples:
      session replay --check
      session replay distillation --check --into ./again
    """
    from entrenar_shell.replay import replay

    session = _named(name)
    folder = into or _free(f"{session.name}-replay")
    found = replay(session, folder, check=check, progress=out.progress())
    out.emit(found, schema="entrenar.shell.session-replay/1")
    return None if found.is_same else EXIT_FINDING


def _named(name: str | None) -> Session:
    holder = _holder()
    if name is None or name == holder.session.name:
        return holder.session
    return holder.store.peek(name)


def _free(name: str) -> str:
    """The name, or with the first number at its end that there is no such file of."""
    free, number = name, 1
    while Path(free).exists():
        number += 1
        free = f"{name}-{number}"
    return free


COMMANDS: tuple[Command, ...] = (
    Command(("session", "save"), "system", "Save this session.", lambda: _save),
    Command(("session", "load"), "system", "Go on with a session that was kept.", lambda: _load),
    Command(("session", "list"), "system", "List the sessions that are kept.", lambda: _list),
    Command(("session", "delete"), "system", "Delete a session that was kept.", lambda: _delete),
    Command(
        ("session", "export"), "system", "Write the session's work as a script.", lambda: _export,
        values=(("file", "file"),),
    ),
    Command(
        ("session", "replay"), "system", "Run a session's commands again, and compare.",
        lambda: _replay, values=(("into", "folder"),),
    ),
)  # fmt: skip
