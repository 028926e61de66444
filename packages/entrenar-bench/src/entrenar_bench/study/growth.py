"""Plans that grow while they are run: arms that are added, and rungs that arms go on to.

What was decided is kept in the transaction that acts on it, so drivers beside each other, or one
after another, decide once: the second finds what the first has written, and agrees or is refused.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection, Sequence
from dataclasses import asdict

from entrenar_bench.study import planning
from entrenar_bench.study.events import record
from entrenar_bench.study.planning import ASKED, RUNG, Edited, meta, set_meta
from entrenar_bench.study.records import Asked, Plan, Status
from entrenar_common.errors import RefusedError

__all__ = ["advance", "asked", "extend", "rung"]


def asked(connection: sqlite3.Connection) -> Asked:
    """The points that were asked for."""
    found = json.loads(meta(connection, ASKED) or "{}")
    return Asked(*(tuple(found.get(name, ())) for name in ("points", "told")))


def extend(
    connection: sqlite3.Connection, plan: Plan, points: Asked, *, edited: Edited, now: float
) -> list[str]:
    """Add the arms of `plan` that the study lacks, with all seeds, for `points`; returns notes.

    Raises RefusedError for points that are not those of the study as far as both go, unless that is
    allowed: then the arms of the others that wait are dropped.
    """
    held, notes = asked(connection), []
    place = points.departs(held)
    if place is not None:
        text = f"point {place + 1} is not the one that the study has"
        if edited == "refuse":
            raise RefusedError(
                f"{text}, or was worth something else",
                hint="points repeat with the same runs and the same version of the sampler; allow "
                "the edit to go on with other points, or begin a study in another file",
            )
        dropped = planning.drop_others(connection, plan)
        notes, held = [f"{text}: {dropped} runs of later points will not be done"], Asked()
    if len(points.points) > len(held.points):
        added = planning.adopt(connection, plan)
        data = {"arm": plan.arms[-1].name, "runs": added, "points": len(points.points)}
        record(connection, now, "extended", data)
    if (len(points.points), len(points.told)) > (len(held.points), len(held.told)):
        set_meta(connection, ASKED, json.dumps(asdict(points), allow_nan=False))
    return notes


def rung(connection: sqlite3.Connection) -> int:
    """How many times arms were chosen that go on."""
    return int(meta(connection, RUNG) or 0)


def advance(
    connection: sqlite3.Connection,
    at: int,
    *,
    arms: Collection[str],
    seeds: Sequence[int],
    now: float,
) -> bool:
    """From rung `at`, let `arms` go on with `seeds` and prune the others; whether that was done.

    Nothing is done where the study is past that rung, or runs of it are not over.
    """
    over = "SELECT count(*) FROM trials WHERE status IN (?, ?)"
    under_way = [Status.WAITING.value, Status.RUNNING.value]
    if rung(connection) != at or connection.execute(over, under_way).fetchone()[0]:
        return False
    rows = connection.execute("SELECT DISTINCT arm FROM trials WHERE status = ?", [_HELD])
    gone = [arm for (arm,) in rows.fetchall() if arm not in arms]
    connection.executemany(
        "UPDATE trials SET status = ? WHERE status = ? AND arm = ?",
        [(Status.PRUNED.value, _HELD, arm) for arm in gone],
    )
    connection.executemany(
        "UPDATE trials SET status = ? WHERE status = ? AND seed = ?",
        [(Status.WAITING.value, _HELD, seed) for seed in seeds],
    )
    set_meta(connection, RUNG, str(at + 1))
    data = {"rung": at + 1, "arms": list(arms), "pruned": gone, "seeds": list(seeds)}
    record(connection, now, "advanced", data)
    return True


_HELD = Status.HELD.value
