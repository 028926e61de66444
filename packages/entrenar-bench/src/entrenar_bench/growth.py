"""Sweeps whose later runs are decided by results: what all of them have in common."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from entrenar_bench.study import Plan, Study

__all__ = ["Growth", "Tell", "untold"]

Tell = Callable[[str], None]


def untold(_text: str) -> None:
    """Say nothing."""


class Growth(Protocol):
    """Decides which runs come next, from those that have ended."""

    @property
    def plan(self) -> Plan:
        """As far as it has grown; at first what a study is created with."""
        ...

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader of its results has to know."""
        ...

    def more(self, study: Study, *, tell: Tell = untold) -> bool:
        """Give the study further runs, or False where there are none; `tell` gets what was decided.

        It is called when no run is left, and decides the same where it is called again.
        """
        ...
