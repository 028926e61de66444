"""The report of a run as a page: curves of its log, the table of its models, its settings."""

from collections.abc import Mapping, Sequence
from typing import Any

from entrenar_common.cells import format_cell, is_numeric
from entrenar_common.tables import Fields, Table, Text
from entrenar_core.train import page
from entrenar_core.train.callbacks import Notice
from entrenar_core.train.exporters.attributes import is_private
from entrenar_core.train.noticed import notice_grids
from entrenar_distill.config import DistillConfig
from entrenar_distill.present import machine_part, phases_part

__all__ = ["facts_of", "grid_of", "run_page"]


def run_page(
    report: Any,
    records: Sequence[Mapping[str, Any]],
    config: DistillConfig,
    *,
    noticed: Sequence[tuple[str, Notice]] = (),
) -> str:
    """The page of a finished run as HTML.

    `report` is a `RunReport` or a `TextReport`, `records` are the lines of its log. `noticed` may
    depend on how fast the machine was, so it is with what does.
    """
    shown = report.__view__()
    quality = next(part for part in shown if isinstance(part, Table))
    steady, rates = _parted(quality)
    lead = [part for part in shown[: shown.index(quality)] if isinstance(part, Text)]
    run = next(part for part in shown if isinstance(part, Fields) and part.title == "Run")
    machine = [
        *rates,
        grid_of(phases_part(report.phases)),
        facts_of(machine_part(report.environment)),
    ]
    return page.page(
        f"Distillation: {report.student}",
        records,
        results=[*map(_paragraph, lead), grid_of(steady)],
        settings=[facts_of(run), page.Facts("Whole configuration", _flat(config), folded=True)],
        machine=[*notice_grids(noticed), *machine],
    )


def _parted(quality: Table) -> tuple[Table, list[page.Part]]:
    """The table without its rates, which are the machine's, and these."""
    rates = [i for i, name in enumerate(quality.columns) if name.endswith("/s")]
    if not rates:
        return quality, []
    steady = [i for i in range(len(quality.columns)) if i not in rates]

    def only(columns: Sequence[int], title: str, caption: str | None) -> Table:
        rows = [[row[i] for i in columns] for row in quality.rows]
        return Table(title, [quality.columns[i] for i in columns], rows, caption)

    title = quality.title or ""
    return only(steady, title, quality.caption), [grid_of(only([0, *rates], "Speed", None))]


def _paragraph(part: Text) -> page.Paragraph:
    text = part.text.removeprefix("Note: ")
    return page.Paragraph(text, note=text != part.text)


def facts_of(part: Fields) -> page.Facts:
    """The part of a view as one of a page."""
    return page.Facts(part.title or "", [(name, format_cell(v)) for name, v in part.items])


def grid_of(part: Table) -> page.Grid:
    """The part of a view as one of a page."""
    rows = [[format_cell(cell) for cell in row] for row in part.rows]
    numeric = [is_numeric([row[i] for row in rows]) for i in range(len(part.columns))]
    return page.Grid(part.title or "", part.columns, rows, numeric, part.caption or "")


def _flat(config: DistillConfig) -> list[tuple[str, str]]:
    """Every key of the configuration, as --set has it, but for what looks like a secret."""

    def items(section: Any, prefix: str) -> list[tuple[str, str]]:
        if isinstance(section, dict) and section:
            return [pair for k, part in section.items() for pair in items(part, f"{prefix}.{k}")]
        name = prefix[1:]
        return [] if is_private(name, section) else [(name, format_cell(section))]

    return items(config.model_dump(mode="json"), "")
