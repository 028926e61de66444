"""How a training, and what one would do, look on a terminal."""

from dataclasses import dataclass
from typing import Any

from entrenar_common.tables import Fields, Table, Text
from entrenar_core.train.declarative.rate import FoundRate
from entrenar_core.train.declarative.report import TrainPlan, TrainReport

__all__ = ["Shown", "plan_parts", "rate_parts", "report_parts"]


@dataclass(frozen=True)
class Shown:
    """A record of the library as it is printed."""

    parts: list[Any]

    def __view__(self) -> list[Any]:
        return self.parts


def plan_parts(plan: TrainPlan) -> list[Any]:
    """The parts of a plan's view."""
    return [
        Fields("What would be done", plan.facts()),
        Text("Everything was checked, and nothing was trained."),
    ]


def report_parts(report: TrainReport) -> list[Any]:
    """The parts of a report's view, what was measured first."""
    columns, rows = report.table()
    return [
        Table("On what was held out", columns, rows),
        Fields("Training", report.facts()),
        Fields("Files", list(report.files.items())),
    ]


_ROWS = 20
"""Of the table of rates: so many, evenly spread."""


def rate_parts(found: FoundRate) -> list[Any]:
    """The parts of a view of rising learning rates, the answer first."""
    if found.suggestion is None:
        answer = f"No learning rate is suggested: {found.why_none}."
    else:
        answer = (
            f"The loss fell fastest at a learning rate of {found.suggestion:.2g}: "
            f"--set optimizer.lr={found.suggestion:.2g}"
        )
    if found.diverges_at is not None:
        answer += f" From {found.diverges_at:.2g} on it only rose."
    every = max(1, -(-len(found.rates) // _ROWS))
    rows = [
        [f"{rate:.2e}", loss, smooth]
        for rate, loss, smooth in list(zip(found.rates, found.losses, found.smooth, strict=True))[
            ::every
        ]
    ]
    caption = f"{len(found.rates)} steps, of which every {every}th; it ended because {found.ended}."
    columns = ["Learning rate", "Loss before the step", "Moving average"]
    return [Text(answer, "title"), Table(None, columns, rows, caption)]
