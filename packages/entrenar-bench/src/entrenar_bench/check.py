"""A share of studies with a verdict, and what it has to be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from entrenar_bench.statistics.proportion import clopper_pearson
from entrenar_common.tables import Table, Text

__all__ = ["ALPHA", "Check", "Wanted", "check", "table"]

ALPHA = 0.05

Wanted = Literal["equal", "at most", "at least"]

_SURE = 0.999
"""Confidence of a share's interval: one of ten good checks fails in 1 of 100 self-tests."""

_SIGNS: dict[Wanted, str] = {"equal": "", "at most": "<= ", "at least": ">= "}


@dataclass(frozen=True)
class Check:
    """A share of studies with a verdict, and what it has to be.

    low and high: its interval by Clopper and Pearson. An expected value is met inside it; a limit
    that it has to keep is missed where the whole interval is beyond it.
    """

    what: str
    studies: int
    share: float
    low: float
    high: float
    expected: float
    wanted: Wanted

    @property
    def passed(self) -> bool:
        """Whether the share fits what is expected."""
        above = self.wanted == "at least" or self.low <= self.expected
        below = self.wanted == "at most" or self.expected <= self.high
        return above and below


def check(what: str, decided: int, studies: int, *, expected: float, wanted: Wanted) -> Check:
    """Of `decided` out of `studies`."""
    low, high = clopper_pearson(decided, studies, confidence=_SURE)
    return Check(what, studies, decided / studies, low, high, expected, wanted)


def table(title: str, checks: Sequence[Check], *, caption: str) -> Table:
    """The checks, a row each."""
    return Table(
        title,
        ["", "share", "99.9 % interval", "expected", ""],
        [
            [c.what, f"{c.share:.3f}", f"{c.low:.3f} to {c.high:.3f}",
             f"{_SIGNS[c.wanted]}{c.expected:.3f}",
             Text("ok", "good") if c.passed else Text("off", "bad")]
            for c in checks
        ],
        caption=caption,
    )  # fmt: skip
