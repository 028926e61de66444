"""What is in a study: runs, what they measured, and what is known about all of them."""

from __future__ import annotations

import json
import math
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from entrenar_bench.study import growth, leases, planning
from entrenar_bench.study.database import sqlite_errors
from entrenar_bench.study.leases import read_trial
from entrenar_bench.study.provenance import Provenance
from entrenar_bench.study.records import Asked, Attempt, Status, Trial
from entrenar_bench.study.search import Search
from entrenar_common.errors import NotFoundError

__all__ = ["Contents"]


class Contents:
    """A study as it is read; StorageError and FormatError where its file cannot be."""

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self.path, self._connection = path, connection

    # ---- of the whole study --------------------------------------------------------------------

    @property
    def stopped(self) -> str | None:
        """Why no more runs are given out, None where they are."""
        with sqlite_errors(self.path):
            return planning.meta(self._connection, leases.STOPPED)

    @property
    def name(self) -> str:
        """What the study is called."""
        return planning.meta(self._connection, "name") or ""

    @property
    def search(self) -> Search:
        """How its arms came about; empty where a file does not say it."""
        with sqlite_errors(self.path):
            return planning.search(self._connection)

    @property
    def energy(self) -> tuple[str, ...]:
        """What was said of the energy of its runs: how it was counted, or why it was not."""
        with sqlite_errors(self.path):
            return tuple(planning.listed(self._connection, "energy") or ())

    @property
    def provenance(self) -> Provenance:
        """Where the study was created."""
        found = json.loads(planning.meta(self._connection, "provenance") or "null")
        return Provenance(**found) if found else Provenance("unknown", {}, None)

    @property
    def asked(self) -> Asked:
        """The points by which the plan has grown."""
        with sqlite_errors(self.path):
            return growth.asked(self._connection)

    @property
    def rung(self) -> int:
        """How many times arms were chosen that go on with more seeds."""
        with sqlite_errors(self.path):
            return growth.rung(self._connection)

    # ---- of its runs ---------------------------------------------------------------------------

    def counts(self) -> dict[Status, int]:
        """How many runs are in each status."""
        with sqlite_errors(self.path):
            rows = self._connection.execute("SELECT status, count(*) FROM trials GROUP BY status")
            found = {Status(status): count for status, count in rows}
        return {status: found.get(status, 0) for status in Status}

    def trials(self) -> Iterator[Trial]:
        """All runs, in their order."""
        with sqlite_errors(self.path):
            query = "SELECT position, run, id, arm, seed, config, status, error FROM trials"
            rows = self._connection.execute(f"{query} ORDER BY position").fetchall()
        return map(read_trial, rows)

    def attempts(self) -> list[Attempt]:
        """Every time that a run was begun, in order."""
        with sqlite_errors(self.path):
            rows = self._connection.execute(
                "SELECT token, run, worker, started, ended, outcome, error FROM attempts "
                "ORDER BY token"
            ).fetchall()
        return [Attempt(*row) for row in rows]

    def results(self, metric: str) -> dict[str, dict[int, float]]:
        """A metric of the finished runs: of each arm, by seed, as `compare_arms` takes it.

        Raises NotFoundError for a metric that no finished run has.
        """
        with sqlite_errors(self.path):
            rows = self._connection.execute(
                "SELECT arm, seed, value FROM results JOIN trials USING (run) WHERE metric = ? "
                "ORDER BY position",
                [metric],
            ).fetchall()
        if not rows:
            raise NotFoundError(
                f"{self.path}: no finished run has the metric {metric!r}",
                hint=f"there are: {', '.join(self.metrics()) or 'none'}",
            )
        found: dict[str, dict[int, float]] = {}
        for arm, seed, value in rows:
            found.setdefault(arm, {})[seed] = math.nan if value is None else value
        return found

    def measured(self) -> dict[str, dict[str, float]]:
        """The metrics of each finished run, by the run's name."""
        with sqlite_errors(self.path):
            rows = self._connection.execute(
                "SELECT run, metric, value FROM results ORDER BY run, metric"
            ).fetchall()
        found: dict[str, dict[str, float]] = {}
        for run, metric, value in rows:
            found.setdefault(run, {})[metric] = math.nan if value is None else value
        return found

    def metrics(self) -> list[str]:
        """The names of what finished runs have."""
        with sqlite_errors(self.path):
            rows = self._connection.execute("SELECT DISTINCT metric FROM results ORDER BY metric")
            return [name for (name,) in rows]

    def steps(self, run: str) -> list[tuple[int, str, float]]:
        """Step, metric and value of the newest attempt at a run."""
        with sqlite_errors(self.path):
            rows = self._connection.execute(
                "SELECT step, metric, value FROM steps WHERE run = ? AND token = "
                "(SELECT max(token) FROM steps WHERE run = ?) ORDER BY step, metric",
                [run, run],
            ).fetchall()
        return [(step, name, math.nan if value is None else value) for step, name, value in rows]
