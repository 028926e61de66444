"""The report of a training as a page: curves of its log, what was measured, its settings."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from entrenar_core.train import page
from entrenar_core.train.callbacks import Notice
from entrenar_core.train.declarative.report import TrainReport
from entrenar_core.train.declarative.spec import TrainSpec
from entrenar_core.train.exporters.attributes import flattened
from entrenar_core.train.noticed import notice_grids

__all__ = ["report_page"]

_OF_THE_MACHINE = ("steps", "machine")
"""Facts that differ from run to run, or have something in them that does."""


def report_page(
    report: TrainReport,
    records: Sequence[Mapping[str, Any]],
    spec: TrainSpec,
    *,
    noticed: Sequence[tuple[str, Notice]] = (),
) -> str:
    """The page of a finished training as HTML; `records` are the lines of its log.

    What looks like a secret in the configuration is left out.
    """
    columns, rows = report.table()
    numeric = [False, *[True] * (len(columns) - 1)]
    steady = [fact for fact in report.facts() if fact[0] not in _OF_THE_MACHINE]
    timed = [fact for fact in report.facts() if fact[0] in _OF_THE_MACHINE]
    settings = flattened(spec.model_dump(mode="json"), prefix="")
    return page.page(
        f"Training: {report.model}",
        records,
        results=[page.Grid("On what was held out", columns, rows, numeric)],
        settings=[
            page.Facts("Training", steady),
            page.Facts("Whole configuration", [*map(_shown, settings.items())], folded=True),
        ],
        machine=[*notice_grids(noticed), page.Facts("Training", timed)],
    )


def _shown(setting: tuple[str, Any]) -> tuple[str, str]:
    name, value = setting
    return name, value if isinstance(value, str) else json.dumps(value)
