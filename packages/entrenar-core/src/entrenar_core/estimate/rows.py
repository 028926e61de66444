"""An estimate's terms as rows of a record, and as cells of a table."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from entrenar_common.units import format_binary
from entrenar_core.estimate.terms import Memory

COLUMNS = ("term", "size", "share", "how")


@dataclass(frozen=True)
class TermRow:
    """One term: `share` of the peak, 0 where it is not there then; `when` says when it is."""

    name: str
    bytes: int
    share: float
    when: str
    at_peak: bool
    how: str


def term_rows(memory: Memory) -> tuple[TermRow, ...]:
    """The terms of `memory` in its order."""
    return tuple(
        TermRow(
            name=term.name,
            bytes=term.bytes,
            share=term.bytes / memory.total if memory.at_peak(term) else 0.0,
            when=term.when,
            at_peak=memory.at_peak(term),
            how=term.why,
        )
        for term in memory.terms
    )


def term_cells(rows: Sequence[TermRow], total: int) -> list[list[Any]]:
    """A line of `COLUMNS` for each row, and one for the `total` in bytes."""
    cells: list[list[Any]] = [
        [
            row.name if row.at_peak else f"{row.name} *",
            format_binary(row.bytes),
            f"{100 * row.share:.1f}%" if row.at_peak else None,
            row.how,
        ]
        for row in rows
    ]
    return [*cells, ["total at the peak", format_binary(total), "100.0%", "of those without *"]]


def caption(rows: Sequence[TermRow], computed: str) -> str:
    """What stands below them: how they were `computed`, and what the star means where one is."""
    found = f"{computed[0].upper()}{computed[1:]}."
    if not all(row.at_peak for row in rows):
        found += " * Not there at the peak, but at another time."
    return found
