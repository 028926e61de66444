"""Who works on which run: leases that expire, with a token that fences off who comes late.

Each attempt has a token, larger than all before. A report counts if its token is that of the run's
newest attempt and that attempt is under way: a worker that was thought dead and is not reports in
vain once its run was given away. Source: Kleppmann, "Designing Data-Intensive Applications" (2017),
chapter 8.
"""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Mapping

from entrenar_bench.study.events import record
from entrenar_bench.study.planning import meta, set_meta
from entrenar_bench.study.records import Lease, Status, Trial
from entrenar_common.errors import RefusedError

__all__ = ["LeaseLost", "begin", "end", "expire", "extend", "is_held", "read_trial", "retry"]

MOST_LOSSES = 3
"""A run whose worker vanished so often is given to no other."""

SAME_ERRORS = 3
"""The study is stopped when so many attempts, the first ones, ended in the same error."""

STOPPED, FRESH_FROM = "stopped", "fresh_from"
_COLUMNS = "position, run, id, arm, seed, config, status, error"


class LeaseLost(RefusedError):
    """When a report comes from a worker whose run was given to another, or has ended."""


def read_trial(row: tuple) -> Trial:
    """A trial of the columns that are selected for it."""
    position, run, name, arm, seed, config, status, error = row
    return Trial(position, run, name, arm, seed, json.loads(config), Status(status), error)


def begin(
    connection: sqlite3.Connection, worker: str, *, now: float, seconds: float
) -> Lease | None:
    """Give the next run that waits to `worker`; None where none waits or the study is stopped."""
    if meta(connection, STOPPED) is not None:
        return None
    row = connection.execute(
        f"SELECT {_COLUMNS} FROM trials WHERE status = ? ORDER BY position LIMIT 1",
        [Status.WAITING.value],
    ).fetchone()
    if row is None:
        return None
    trial = read_trial((*row[:6], Status.RUNNING.value, row[7]))
    token = connection.execute(
        "INSERT INTO attempts (run, worker, started, deadline) VALUES (?, ?, ?, ?)",
        [trial.run, worker, now, now + seconds],
    ).lastrowid
    assert token is not None  # after an INSERT there is one
    _set_status(connection, trial.run, Status.RUNNING)
    record(connection, now, "claimed", _named(trial, token) | {"worker": worker})
    return Lease(trial, token, worker, now + seconds)


def expire(connection: sqlite3.Connection, *, now: float) -> int:
    """End the attempts whose deadline has passed, so that others can have their runs; how many."""
    rows = connection.execute(
        "SELECT token, run FROM attempts WHERE ended IS NULL AND deadline < ?", [now]
    ).fetchall()
    for token, run in rows:
        _close(connection, token, now, "lost", None)
        connection.execute("UPDATE trials SET losses = losses + 1 WHERE run = ?", [run])
        (losses,) = connection.execute("SELECT losses FROM trials WHERE run = ?", [run]).fetchone()
        if losses < MOST_LOSSES:
            _set_status(connection, run, Status.WAITING)
        else:
            text = f"its worker vanished {losses} times: was it killed, or out of memory?"
            _set_status(connection, run, Status.FAILED, error=text)
        record(connection, now, "lost", {"run": run, "token": token, "losses": losses})
    return len(rows)


def is_held(connection: sqlite3.Connection, lease: Lease) -> bool:
    """Whether reports of `lease` count. Its deadline may have passed if nobody has noticed."""
    row = connection.execute("SELECT ended FROM attempts WHERE token = ?", [lease.token]).fetchone()
    return row is not None and row[0] is None


def extend(connection: sqlite3.Connection, lease: Lease, *, now: float, seconds: float) -> Lease:
    """The lease with a new deadline."""
    connection.execute(
        "UPDATE attempts SET deadline = ? WHERE token = ?", [now + seconds, lease.token]
    )
    return Lease(lease.trial, lease.token, lease.worker, now + seconds)


def end(
    connection: sqlite3.Connection,
    lease: Lease,
    *,
    now: float,
    metrics: Mapping[str, float] | None = None,
    error: str | None = None,
) -> None:
    """End the attempt: finished with its metrics, or failed with an error, or given back."""
    named = _named(lease.trial, lease.token)
    run = lease.trial.run
    if metrics is not None:
        connection.executemany(
            "INSERT INTO results VALUES (?, ?, ?)",
            [(run, name, float(value)) for name, value in metrics.items()],
        )
        outcome, status, data = "finished", Status.FINISHED, {"metrics": dict(metrics)}
    elif error is not None:
        outcome, status, data = "failed", Status.FAILED, {"error": error}
    else:
        outcome, status, data = "given back", Status.WAITING, {}
    _close(connection, lease.token, now, outcome, error)
    _set_status(connection, run, status, error=error)
    record(connection, now, outcome, named | data)
    if error is not None:
        _stop_if_all_fail(connection, now)


def retry(connection: sqlite3.Connection, *, now: float) -> int:
    """Let failed runs wait again and a stopped study go on; returns how many runs."""
    changed = connection.execute(
        "UPDATE trials SET status = ?, error = NULL, losses = 0 WHERE status = ?",
        [Status.WAITING.value, Status.FAILED.value],
    ).rowcount
    (last,) = connection.execute("SELECT coalesce(max(token), 0) FROM attempts").fetchone()
    set_meta(connection, FRESH_FROM, str(last))
    set_meta(connection, STOPPED, None)
    record(connection, now, "retried", {"runs": changed})
    return changed


def _stop_if_all_fail(connection: sqlite3.Connection, now: float) -> None:
    """Stop the study when nothing but one error has come of it: the rest would fail alike."""
    fresh_from = int(meta(connection, FRESH_FROM) or 0)
    rows = connection.execute(
        "SELECT outcome, error FROM attempts WHERE token > ? AND outcome IN ('finished', 'failed') "
        "ORDER BY ended, token LIMIT ?",
        [fresh_from, SAME_ERRORS],
    ).fetchall()
    kinds = {_kind(error) if outcome == "failed" else None for outcome, error in rows}
    if len(rows) == SAME_ERRORS and len(kinds) == 1 and None not in kinds:
        text = f"the first {SAME_ERRORS} runs failed with the same error: {rows[0][1]}"
        set_meta(connection, STOPPED, text)
        record(connection, now, "stopped", {"reason": text})


def _kind(error: str) -> str:
    """An error without what differs from run to run: numbers and names made of digits."""
    return re.sub(r"\b(?=\w*\d)\w+\b", "#", error)


def _set_status(
    connection: sqlite3.Connection, run: str, status: Status, *, error: str | None = None
) -> None:
    connection.execute(
        "UPDATE trials SET status = ?, error = ? WHERE run = ?", [status.value, error, run]
    )


def _close(
    connection: sqlite3.Connection, token: int, now: float, outcome: str, error: str | None
) -> None:
    connection.execute(
        "UPDATE attempts SET ended = ?, outcome = ?, error = ? WHERE token = ?",
        [now, outcome, error, token],
    )


def _named(trial: Trial, token: int) -> dict[str, object]:
    return {"run": trial.run, "token": token, "arm": trial.arm, "seed": trial.seed}
