"""The SQLite file of a study: how it is opened, its tables, and its errors as ours."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from entrenar_common.errors import EntrenarError, FormatError, StorageError

__all__ = ["SCHEMA_VERSION", "connect", "journal_mode", "sqlite_errors", "transaction"]

SCHEMA_VERSION = 1
_BUSY_SECONDS = 30.0

# Write-ahead logs need shared memory between all processes, which network filesystems lack.
_LOCAL = frozenset({"ext2", "ext3", "ext4", "xfs", "btrfs", "f2fs", "zfs", "tmpfs", "overlay"})

_TABLES = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE trials (
    position INTEGER PRIMARY KEY,
    run TEXT NOT NULL UNIQUE,
    id TEXT NOT NULL,
    arm TEXT NOT NULL,
    seed INTEGER NOT NULL,
    config TEXT NOT NULL,
    status TEXT NOT NULL,
    losses INTEGER NOT NULL DEFAULT 0,
    error TEXT
);
CREATE INDEX trials_by_status ON trials (status, position);
CREATE TABLE attempts (
    token INTEGER PRIMARY KEY AUTOINCREMENT,
    run TEXT NOT NULL REFERENCES trials (run),
    worker TEXT NOT NULL,
    started REAL NOT NULL,
    deadline REAL NOT NULL,
    ended REAL,
    outcome TEXT,
    error TEXT
);
CREATE INDEX attempts_under_way ON attempts (deadline) WHERE ended IS NULL;
CREATE TABLE steps (
    run TEXT NOT NULL, token INTEGER NOT NULL, step INTEGER NOT NULL,
    metric TEXT NOT NULL, value REAL,
    PRIMARY KEY (run, token, step, metric)
) WITHOUT ROWID;
CREATE TABLE results (
    run TEXT NOT NULL, metric TEXT NOT NULL, value REAL,
    PRIMARY KEY (run, metric)
) WITHOUT ROWID;
CREATE TABLE events (
    id INTEGER PRIMARY KEY AUTOINCREMENT, time REAL NOT NULL, kind TEXT NOT NULL, data TEXT NOT NULL
);
"""


def connect(path: Path, *, create: bool = False) -> sqlite3.Connection:
    """The study's file, ready for transactions; with `create` its tables are made where missing.

    Raises StorageError, and FormatError for a file that is none of ours.
    """
    mode = "rwc" if create else "rw"
    with sqlite_errors(path):
        connection = sqlite3.connect(
            f"{path.absolute().as_uri()}?mode={mode}",
            uri=True,
            timeout=_BUSY_SECONDS,
            isolation_level=None,  # transactions are begun by name, below
        )
        try:
            connection.execute(f"PRAGMA journal_mode = {journal_mode(path)}").fetchone()
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA foreign_keys = ON")
            _prepare(connection, path, create=create)
        except BaseException:
            connection.close()
            raise
    return connection


def _prepare(connection: sqlite3.Connection, path: Path, *, create: bool) -> None:
    with transaction(connection):
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version == 0 and create:
            for statement in _TABLES.split(";\n"):
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        elif version != SCHEMA_VERSION:
            raise FormatError(
                f"{path}: is a study of version {version}, not {SCHEMA_VERSION}",
                hint="use the version of entrenar-bench that wrote it, or another file",
            )


def journal_mode(path: Path) -> str:
    """WAL on a local disk, where readers and a writer do not wait for each other; else DELETE."""
    return "WAL" if _filesystem(path) in _LOCAL else "DELETE"


def _filesystem(path: Path) -> str:
    """The type of the filesystem that `path` is on; "" where it cannot be told."""
    try:
        lines = Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""
    where, found = path.resolve(), ("", "")
    for line in lines:
        before, _, after = line.partition(" - ")
        place, kind = before.split(" ")[4], after.split(" ")[0]
        if where.is_relative_to(place) and len(place) >= len(found[0]):
            found = place, kind
    return found[1]


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """Writes all that the body does, or nothing; no other process writes meanwhile."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:  # a full disk may have ended it
            connection.execute("ROLLBACK")
        raise


@contextmanager
def sqlite_errors(path: str | os.PathLike[str]) -> Iterator[None]:
    """Turns an error of SQLite in the body into ours, which names the file and the next step."""
    try:
        yield
    except sqlite3.Error as error:
        raise _ours(error, os.fspath(path)) from error


def _ours(error: sqlite3.Error, path: str) -> EntrenarError:
    name = getattr(error, "sqlite_errorname", None) or type(error).__name__
    if name in ("SQLITE_NOTADB", "SQLITE_CORRUPT"):
        return FormatError(
            f"{path}: is no study: {error} ({name})",
            hint="name another file; what was reported is also in the .jsonl file beside it",
        )
    hint = next((text for start, text in _HINTS.items() if name.startswith(start)), _HINTS[""])
    return StorageError(f"{path}: cannot be read or written: {error} ({name})", hint=hint)


_HINTS = {
    "SQLITE_FULL": "free some space, then run again: finished runs are kept",
    "SQLITE_BUSY": "another process holds the study: wait for it, then run again",
    "SQLITE_READONLY": "check the owner and permissions of the file and its folder",
    "SQLITE_CANTOPEN": "check the path and the permissions of its folder",
    "": "check the disk and the folder, then run again",
}
