"""The JSONL mirror of a study: every event, one a line, for eyes and for other programs.

The SQLite file is the truth. An event is written there first and here after it, and what a crash
left out here is appended by the next writer; a line may come twice, and its `id` tells.
"""

from __future__ import annotations

import json
import os
import sqlite3
from pathlib import Path
from typing import Any

from entrenar_bench.study.database import transaction
from entrenar_common.errors import FormatError
from entrenar_core.io import files

__all__ = ["Mirror", "read_mirror"]

_MIRRORED = "mirrored"


class Mirror:
    """Appends the events of a study to a file beside it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def repair(self, connection: sqlite3.Connection) -> str | None:
        """Drop a last line that was cut off while written, and append what is missing; returns a
        note about what was dropped."""
        with transaction(connection):
            dropped = self._drop_torn_line()
            if dropped is not None or not self.path.exists():
                last = max((event["id"] for event in read_mirror(self.path)), default=0)
                _remember(connection, last)
        self.catch_up(connection)
        return dropped

    def catch_up(self, connection: sqlite3.Connection) -> None:
        """Append the events that are not there yet, in their order."""
        with transaction(connection):
            row = connection.execute("SELECT value FROM meta WHERE key = ?", [_MIRRORED]).fetchone()
            last = int(row[0]) if row else 0
            rows = connection.execute(
                "SELECT id, time, kind, data FROM events WHERE id > ? ORDER BY id", [last]
            ).fetchall()
            events = [
                {"id": number, "time": time, "kind": kind, **json.loads(data)}
                for number, time, kind, data in rows
            ]
            if events:
                lines = [json.dumps(event, allow_nan=False) + "\n" for event in events]
                files.append(self.path, "".join(lines).encode())
                _remember(connection, rows[-1][0])

    def _drop_torn_line(self) -> str | None:
        if not self.path.exists() or _ends_whole(self.path):
            return None
        content = files.read_bytes(self.path, max_bytes=self.path.stat().st_size)
        whole = content.rfind(b"\n") + 1
        files.write_bytes(self.path, content[:whole])
        return (
            f"{self.path}: the last line was cut off after {len(content) - whole} bytes; it was "
            "dropped and is written again"
        )


def read_mirror(path: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """The events in a mirror, each once, in the order of their ids; none where there is no file.

    A last line without its end is left out. Raises FormatError for any other line that is no event.
    """
    path = Path(path)
    if not path.exists():
        return []
    content = files.read_bytes(path, max_bytes=path.stat().st_size)
    found: dict[int, dict[str, Any]] = {}
    for number, line in enumerate(content.split(b"\n")[:-1], 1):
        event = _event(line)
        if event is None:
            raise FormatError(
                f"{path}:{number}: is no event of a study",
                hint="remove the file: the next command writes it again from the study",
            )
        found[event["id"]] = event
    return [found[key] for key in sorted(found)]


def _event(line: bytes) -> dict[str, Any] | None:
    try:
        event = json.loads(line)
    except ValueError:
        return None
    return event if isinstance(event, dict) and isinstance(event.get("id"), int) else None


def _ends_whole(path: Path) -> bool:
    with path.open("rb") as file:
        end = file.seek(0, os.SEEK_END)
        if end == 0:
            return True
        file.seek(end - 1)
        return file.read(1) == b"\n"


def _remember(connection: sqlite3.Connection, last: int) -> None:
    connection.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", [_MIRRORED, str(last)])
