"""The command about what was done."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import click

from entrenar_common.cli import Command as ClickCommand
from entrenar_common.cli import Output, common_options
from entrenar_common.tables import Table, Text
from entrenar_common.units import format_duration
from entrenar_shell.command import Command
from entrenar_shell.own import workbench
from entrenar_shell.session import Entry

__all__ = ["COMMANDS", "History"]


_SHOWN = ("loss", "held_out_loss", "accuracy")
"""Figures that have a place in the table; --json has all."""


@dataclass(frozen=True)
class History:
    """What was done in a session, oldest first."""

    session: str
    entries: tuple[Entry, ...]

    def __view__(self) -> list[Any]:
        columns = ["#", "command", "duration", "status"]
        rows: list[list[Any]] = [
            [e.number, e.line, format_duration(e.seconds), _status(e.code)] for e in self.entries
        ]
        if any(entry.metrics for entry in self.entries):
            columns.append("figures")
            for row, entry in zip(rows, self.entries, strict=True):
                row.append(_figures(entry))
        return [Table("Session history", columns, rows)]


def _figures(entry: Entry) -> str:
    return ", ".join(
        f"{name} {value:.4g}"
        for name, value in entry.metrics.items()
        if name.rpartition(".")[2] in _SHOWN
    )


def _status(code: int) -> Text:
    return Text("ok", "good") if code == 0 else Text(f"exit {code}", "bad")


@click.command("history", cls=ClickCommand)
@click.option("--last", type=click.IntRange(1), metavar="N", help="Only the last N.")
@click.option("--failed", is_flag=True, help="Only what did not succeed.")
@common_options
def _history(out: Output, last: int | None, failed: bool) -> None:
    """List the commands of this session: how long each took, how it ended, what it measured.

    The output of entry 3 is `_3` in later commands. --json has also what each command read and
    wrote, and the command lines that it stood for.
    """
    session = workbench().session
    entries = [entry for entry in session.entries if entry.code or not failed]
    shown = tuple(entries[-last:] if last else entries)
    out.emit(History(session.name, shown), schema="entrenar.shell.history/1")


COMMANDS: tuple[Command, ...] = (
    Command(("history",), "system", "List the commands of this session.", lambda: _history),
)
