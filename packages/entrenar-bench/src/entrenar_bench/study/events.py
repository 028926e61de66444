"""What happened in a study, in order: rows that the mirror copies."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from typing import Any

from entrenar_common.tables import to_plain

__all__ = ["record"]


def record(connection: sqlite3.Connection, now: float, kind: str, data: Mapping[str, Any]) -> None:
    """Keep an event, in the transaction that it is about; NaN and infinity are null."""
    connection.execute(
        "INSERT INTO events (time, kind, data) VALUES (?, ?, ?)",
        [now, kind, json.dumps(to_plain(data), allow_nan=False)],
    )
