"""Sessions on a disk: `NAME.json` in a folder that is the user's alone, one shell at a time.

A file is written whole or not at all, with the permissions 0600. What is found instead of a
session is dealt with so that the shell can start and nothing is lost:

    truncated, garbage, foreign    moved to NAME.corrupt-<time>.json; the session begins anew
    written by a newer release     UnsupportedError; the file stays
    larger than 64 MiB             RefusedError, before it is read; the file stays
    readable by others             made readable for the user alone
    in use by another shell        this one works on a copy, NAME-2
    a folder that cannot be used   the session is not kept
"""

from __future__ import annotations

import json
import re
import stat
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from entrenar_common.errors import (
    CheckpointError,
    EntrenarError,
    FormatError,
    NotFoundError,
    RefusedError,
    StorageError,
    UsageError,
)
from entrenar_common.text import escape_controls
from entrenar_common.units import format_binary
from entrenar_core.io import files
from entrenar_core.io.os_calls import read_errors
from entrenar_core.io.strict_json import MAX_JSON_BYTES
from entrenar_shell.session import Session
from entrenar_shell.session_json import session_from_json, session_to_json

__all__ = ["Kept", "Opened", "SessionStore"]

MAX_ENTRIES = 10_000
"""Entries that are kept of a session, the newest ones."""

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,63}", re.ASCII)
_ASIDE = ".corrupt-"
_FILE, _FOLDER = 0o600, 0o700


@dataclass(frozen=True)
class Opened:
    """A session that was opened, and what the user should know about how."""

    session: Session
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Kept:
    """A session on the disk: when it was saved, in seconds since the epoch, and its bytes;
    `entries` and `models` say how many it has, or `problem` why that cannot be read."""

    name: str
    saved: float
    size: int
    entries: int | None = None
    models: int | None = None
    problem: str | None = None


class SessionStore:
    """The sessions in `folder`; None where there is no place for any (see `places`).

    It holds the lock of one session, the one that was opened last, until `close` or the end of
    the process. `kept` says whether that session can be saved.
    """

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        self.kept = False
        self.current: str | None = None
        self._held = ExitStack()

    def open(self, name: str) -> Opened:
        """The session of that name, or a new one. What is wrong with its file is dealt with as
        the table above says; raises UsageError for what is no name."""
        check_name(name)
        if self.folder is None:
            return self._unkept(Session(name), "neither HOME nor XDG_DATA_HOME is set")
        if name == self.current:
            return self._read(name)
        try:
            files.make_folder(self.folder, mode=_FOLDER)
            return self._open_locked(name)
        except StorageError as error:
            return self._unkept(self._as_far_as_read(name), error.message)

    def start(self, name: str) -> Opened:
        """A new session of that name, or, if there is one already, of the first free one of
        NAME-2, NAME-3 and so on."""
        check_name(name)
        if self.folder is None:
            return self.open(name)
        try:
            files.make_folder(self.folder, mode=_FOLDER)
            free = self._hold_free(name)
        except StorageError as error:
            return self._unkept(Session(name), error.message)
        return Opened(Session(free))

    def save(self, session: Session) -> bool:
        """Write the open session to its file; False where it is not kept.

        Of more than 10,000 entries, the oldest are left out. Raises StorageError when the disk
        does not take it; the file is then what it was.
        """
        if self.folder is None or not self.kept or session.name != self.current:
            return False
        files.make_folder(self.folder, mode=_FOLDER)
        files.write_bytes(self._path(session.name), _encoded(session), mode=_FILE)
        return True

    def save_as(self, session: Session, name: str) -> None:
        """Write the session under another name, which it and this shell go on with.

        Raises RefusedError when there is a session of that name, and StorageError.
        """
        check_name(name)
        if self.folder is None:
            raise StorageError(
                "there is no place for sessions: neither HOME nor XDG_DATA_HOME is set",
                hint="set XDG_DATA_HOME to a folder, or write a script: session export FILE",
            )
        if name != self.current:
            files.make_folder(self.folder, mode=_FOLDER)
            if self._path(name).exists():
                raise RefusedError(
                    f"there is a session {name} already",
                    hint=f"delete it first: session delete {name}, or give another name",
                )
            with self._lock(name) as held:
                self._hold(name, held.pop_all())
        session.name = name
        self.save(session)

    def delete(self, name: str) -> None:
        """Remove a session. Raises NotFoundError where there is none of that name, RefusedError for
        the one that is open, and CheckpointError for one that is open in another shell."""
        check_name(name)
        if name == self.current:
            raise RefusedError(f"{name} is the session of this shell", hint="load another first")
        self._existing(name)
        with self._lock(name):
            files.remove_tree(self._path(name))

    def sessions(self) -> list[Kept]:
        """What is on the disk, the one that was saved last first."""
        found = [self._described(path) for path in self._paths()]
        return sorted(found, key=lambda kept: (-kept.saved, kept.name))

    def newest(self) -> str | None:
        """The name of the session that was saved last."""
        paths = sorted(self._paths(), key=lambda path: (-path.stat().st_mtime, path.name))
        return paths[0].stem if paths else None

    def peek(self, name: str) -> Session:
        """A session as it is on the disk, which is not opened: to look at. Raises NotFoundError
        where there is none, and what is wrong with its file."""
        check_name(name)
        self._existing(name)
        return self._as_read(name)

    def close(self) -> None:
        """Let other shells have the session."""
        self._held.close()
        self.current, self.kept = None, False

    @property
    def path(self) -> Path | None:
        """The file of the open session; None where it is not kept."""
        return self._path(self.current) if self.kept and self.current is not None else None

    # ---- files ---------------------------------------------------------------------------------

    def _path(self, name: str) -> Path:
        assert self.folder is not None
        return self.folder / f"{name}.json"

    def _paths(self) -> Iterator[Path]:
        if self.folder is None or not self.folder.is_dir():
            return
        for path in sorted(self.folder.glob("*.json")):
            if _is_name(path.stem) and path.is_file():
                yield path

    def _existing(self, name: str) -> None:
        if self.folder is None or not self._path(name).exists():
            raise NotFoundError(f"no session {name}", hint="'session list' names those there are")

    def _described(self, path: Path) -> Kept:
        found = path.stat()
        kept = Kept(path.stem, found.st_mtime, found.st_size)
        try:
            session = self._as_read(path.stem)
        except EntrenarError as error:
            return replace(kept, problem=error.message)
        return replace(kept, entries=len(session.entries), models=len(session.models))

    def _as_read(self, name: str) -> Session:
        """What the file has, which stays as it is; an empty session where there is no file."""
        path = self._path(name)
        if not path.exists():
            return Session(name)
        with read_errors(path):
            size = path.stat().st_size
        if size > MAX_JSON_BYTES:
            raise RefusedError(
                f"{path}: {format_binary(size)} are too much for a session, which has "
                f"{format_binary(MAX_JSON_BYTES)} at most",
                hint="move the file away, or give another name by --session",
            )
        session = session_from_json(files.read_json(path), str(path))
        session.name = name  # of the file, which may have been renamed
        return session

    def _as_far_as_read(self, name: str) -> Session:
        try:
            return self._as_read(name)
        except FormatError:
            return Session(name)

    def _read(self, name: str) -> Opened:
        path, notes = self._path(name), list[str]()
        try:
            session = self._as_read(name)
        except FormatError as error:
            aside = _free_name(path)
            files.move(path, aside)
            return Opened(
                Session(name),
                (f"{error.message}; moved to {aside.name}, and session {name} begins anew",),
            )
        if _is_open_to_others(path):
            files.set_mode(path, _FILE)
            notes.append(f"{path.name} could be read by others, and is yours alone now")
        return Opened(session, tuple(notes))

    # ---- one shell at a time -------------------------------------------------------------------

    def _lock(self, name: str) -> ExitStack:
        assert self.folder is not None
        stack = ExitStack()
        stack.enter_context(files.lock(self.folder / f".{name}.lock"))
        return stack

    def _hold(self, name: str, lock: ExitStack) -> None:
        self.close()
        self._held, self.current, self.kept = lock, name, True

    def _hold_free(self, name: str) -> str:
        """Lock and take the first of NAME, NAME-2, NAME-3 … that no file and no shell has."""
        number = 1
        while True:
            free = name if number == 1 else f"{name[:56]}-{number}"
            number += 1
            with suppress(CheckpointError), self._lock(free) as held:
                if not self._path(free).exists():
                    self._hold(free, held.pop_all())
                    return free

    def _open_locked(self, name: str) -> Opened:
        try:
            with self._lock(name) as held:
                found = self._read(name)
                self._hold(name, held.pop_all())
                return found
        except CheckpointError as error:
            return self._open_copy(name, error)

    def _open_copy(self, name: str, error: CheckpointError) -> Opened:
        session = self._as_far_as_read(name)
        session.name = self._hold_free(name)
        owner = error.message.rpartition(", locked by ")[2]
        note = f"session {name} is open in another shell ({owner}): this is a copy, {session.name}"
        return Opened(session, (note,))

    def _unkept(self, session: Session, why: str) -> Opened:
        self.close()
        return Opened(session, (f"this session is not kept: {why}",))


def check_name(name: str) -> None:
    """Raises UsageError for what cannot be the name of a session."""
    if not _is_name(name):
        raise UsageError(
            f"{escape_controls(name[:80])!r} is no name for a session",
            hint="use letters, digits, '.', '_' and '-', at most 64 of them",
        )


def _is_name(name: str) -> bool:
    return _NAME.fullmatch(name) is not None and _ASIDE not in name


def _encoded(session: Session) -> bytes:
    """The newest entries that are few enough and fit in what will be read again."""
    kept = replace(session, entries=session.entries[-MAX_ENTRIES:])
    while True:
        data = json.dumps(session_to_json(kept), indent=1, ensure_ascii=False, allow_nan=False)
        encoded = data.encode() + b"\n"
        if len(encoded) <= MAX_JSON_BYTES or not kept.entries:
            return encoded
        kept = replace(kept, entries=kept.entries[len(kept.entries) // 2 + 1 :])


def _free_name(path: Path) -> Path:
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    free, number = path.with_name(f"{path.stem}{_ASIDE}{stamp}.json"), 1
    while free.exists():
        number += 1
        free = path.with_name(f"{path.stem}{_ASIDE}{stamp}-{number}.json")
    return free


def _is_open_to_others(path: Path) -> bool:
    """Of a file that is there; a link has no permissions of its own."""
    if path.is_symlink() or not path.exists():
        return False
    return bool(path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO))
