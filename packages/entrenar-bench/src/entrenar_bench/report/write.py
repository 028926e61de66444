"""The formats of a report, by the name that they are asked for."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from entrenar_bench.report.document import TIMINGS, Document
from entrenar_bench.report.latex import latex
from entrenar_bench.report.markdown import markdown
from entrenar_bench.report.page import page
from entrenar_common.errors import UsageError
from entrenar_common.tables import Text
from entrenar_common.text import escape_controls, nearest

__all__ = ["FORMATS", "Written", "without_timings", "written"]

FORMATS: dict[str, Callable[[Document], str]] = {"html": page, "md": markdown, "latex": latex}


@dataclass(frozen=True)
class Written:
    """What was written where, in bytes."""

    output: str
    format: str
    bytes: int

    def __view__(self) -> Iterator[Any]:
        yield Text(f"{escape_controls(self.output)}: {self.bytes} bytes")


def written(document: Document, form: str) -> str:
    """The report in a format: equal studies give equal text but for the timings.

    Raises UsageError for a format that there is not.
    """
    if form not in FORMATS:
        raise UsageError(
            f"no format is called {escape_controls(form)!r}",
            hint=f"did you mean {nearest(form, FORMATS) or ', '.join(FORMATS)}?",
        )
    return FORMATS[form](document)


def without_timings(document: Document) -> Document:
    """The report without what differs between runs of equal studies."""
    kept = [section for section in document.sections if section.name != TIMINGS]
    return dataclasses.replace(document, sections=kept)
