"""How a training, and what one would do, look on a terminal."""

from dataclasses import dataclass
from typing import Any

from entrenar_common.tables import Fields, Table, Text
from entrenar_core.train.declarative.report import TrainPlan, TrainReport

__all__ = ["Shown", "plan_parts", "report_parts"]


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
