"""Plans in a study's file: written once, compared when it is opened again, extended if allowed."""

from __future__ import annotations

import json
import sqlite3
from typing import Any, Literal

from entrenar_bench.study.events import record
from entrenar_bench.study.order import ordered
from entrenar_bench.study.records import Plan, Status, canonical, run_id, trial_id
from entrenar_bench.study.search import Search
from entrenar_common.errors import RefusedError

__all__ = [
    "Edited",
    "add_note",
    "adopt",
    "apply",
    "drop_others",
    "has_plan",
    "listed",
    "search",
    "store_plan",
]

Edited = Literal["refuse", "allow"]
"""What to do with a plan whose runs are not those of the study."""

RULE, ASKED, RUNG = "rule", "asked", "rung"
"""What is kept of a plan that grows: its rule, the points that were asked for, the rung."""

_WORKED_ON = (Status.FINISHED.value, Status.RUNNING.value, Status.FAILED.value)
_SET_ASIDE = (Status.DROPPED.value, Status.HELD.value, Status.PRUNED.value)


def has_plan(connection: sqlite3.Connection) -> bool:
    """Whether the study was written, and not only its empty tables."""
    return meta(connection, "digest") is not None


def meta(connection: sqlite3.Connection, key: str) -> str | None:
    """A value that is kept about the whole study."""
    row = connection.execute("SELECT value FROM meta WHERE key = ?", [key]).fetchone()
    return row[0] if row else None


def set_meta(connection: sqlite3.Connection, key: str, value: str | None) -> None:
    """Keep a value about the whole study; None forgets it."""
    if value is None:
        connection.execute("DELETE FROM meta WHERE key = ?", [key])
    else:
        connection.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", [key, value])


def listed(connection: sqlite3.Connection, key: str) -> Any:
    """A value about the whole study that is kept as JSON; None where there is none."""
    return json.loads(meta(connection, key) or "null")


def search(connection: sqlite3.Connection) -> Search:
    """How the arms came about; empty where the study does not say it."""
    return Search.of(listed(connection, "space"))


def add_note(connection: sqlite3.Connection, key: str, text: str) -> None:
    """Keep a sentence about the whole study, once, in the caller's transaction."""
    known = listed(connection, key) or []
    if text not in known:
        set_meta(connection, key, json.dumps([*known, text]))


def store_plan(connection: sqlite3.Connection, plan: Plan, *, now: float) -> None:
    """Write every run of a new study, in a transaction of the caller's."""
    _insert(connection, plan)
    _hold(connection, plan)
    _remember(connection, plan)
    record(connection, now, "created", {"plan": plan.as_plain(), "digest": plan.digest})


def apply(connection: sqlite3.Connection, plan: Plan, *, edited: Edited, now: float) -> list[str]:
    """Make the study's runs those of `plan`, in the caller's transaction; returns what changed.

    New runs are added behind the others. Runs that the plan has no more are dropped if they wait;
    what was worked on stays. Raises RefusedError for a plan that differs, unless it is allowed to,
    or differs in a rule alone by which nothing was decided yet.
    """
    if meta(connection, "digest") == plan.digest:
        if not listed(connection, "space"):  # of a version that kept no search
            set_meta(connection, "space", json.dumps(plan.space, allow_nan=False))
        return []
    wanted, held = _wanted(plan), _held(connection)
    new, gone = len(wanted - held.keys()), sorted(held.keys() - wanted)
    text = f"{new} runs are new, {len(gone)} are gone, {len(wanted & held.keys())} are the same"
    other_rule = meta(connection, RULE) != _rule(plan)
    text += ", chosen by another rule" if other_rule else ""
    undecided = plan.rule and meta(connection, RULE) and not _has_decided(connection)
    if edited == "refuse" and not (undecided and wanted == held.keys()):
        raise RefusedError(
            f"the space or the seeds differ from the study's: {text}",
            hint="allow the edit to go on with what is the same, or begin a study in another file",
        )
    dropped = drop_others(connection, plan)
    adopt(connection, plan)
    _hold(connection, plan)
    _remember(connection, plan)
    record(connection, now, "edited", {"plan": plan.as_plain(), "digest": plan.digest})
    return [f"the plan was edited: {text}; {dropped} of those gone will not be run"]


def adopt(connection: sqlite3.Connection, plan: Plan) -> int:
    """Add the runs of `plan` that are missing, let those wait that were set aside; how many."""
    before = _held(connection)
    connection.executemany(
        "UPDATE trials SET status = ? WHERE run = ? AND status IN (?, ?, ?)",
        [(Status.WAITING.value, run, *_SET_ASIDE) for run in sorted(_wanted(plan))],
    )
    _insert(connection, plan)
    return len(_held(connection)) - len(before)


def drop_others(connection: sqlite3.Connection, plan: Plan) -> int:
    """Drop the runs that `plan` does not have and nobody has worked on; returns how many."""
    wanted = _wanted(plan)
    gone = [
        run for run, status in _held(connection).items()
        if run not in wanted and status not in _WORKED_ON
    ]  # fmt: skip
    connection.executemany(
        "UPDATE trials SET status = ? WHERE run = ?", [(Status.DROPPED.value, run) for run in gone]
    )
    return len(gone)


def _wanted(plan: Plan) -> set[str]:
    return {run_id(arm.config, seed) for arm in plan.arms for seed in plan.seeds}


def _held(connection: sqlite3.Connection) -> dict[str, str]:
    """The status of each run that was not dropped."""
    return dict(
        connection.execute(
            "SELECT run, status FROM trials WHERE status != ?", [Status.DROPPED.value]
        )
    )


def _hold(connection: sqlite3.Connection, plan: Plan) -> None:
    """Let the runs of later seeds be held, where not all are open."""
    if plan.open_seeds is not None:
        connection.executemany(
            "UPDATE trials SET status = ? WHERE status = ? AND seed = ?",
            [(Status.HELD.value, Status.WAITING.value, s) for s in plan.seeds[plan.open_seeds :]],
        )


def _rule(plan: Plan) -> str | None:
    return None if plan.rule is None else canonical(plan.rule)


def _has_decided(connection: sqlite3.Connection) -> bool:
    return any(meta(connection, key) is not None for key in (ASKED, RUNG))


def _insert(connection: sqlite3.Connection, plan: Plan) -> None:
    """Add the runs of a plan that are not there yet, behind the last one."""
    (start,) = connection.execute("SELECT coalesce(max(position), -1) + 1 FROM trials").fetchone()
    texts = {arm.name: (trial_id(arm.config), canonical(arm.config)) for arm in plan.arms}
    rows = [
        (start + place, run_id(arm.config, seed), texts[arm.name][0], arm.name, seed,
         texts[arm.name][1], Status.WAITING.value)
        for place, (arm, seed) in enumerate(ordered(plan))
    ]  # fmt: skip
    connection.executemany(
        "INSERT INTO trials (position, run, id, arm, seed, config, status) "
        "VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (run) DO UPDATE SET arm = excluded.arm",
        rows,
    )


def _remember(connection: sqlite3.Connection, plan: Plan) -> None:
    set_meta(connection, "digest", plan.digest)
    set_meta(connection, "name", plan.name)
    set_meta(connection, "space", json.dumps(plan.space, allow_nan=False))
    set_meta(connection, "order_seed", str(plan.order_seed))
    set_meta(connection, RULE, _rule(plan))
    set_meta(connection, ASKED, None)
    set_meta(connection, RUNG, None)
