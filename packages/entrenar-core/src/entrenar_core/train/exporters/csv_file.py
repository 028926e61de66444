"""`metrics.csv`: the log of a training as a table, one row for each step."""

import csv
import io
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from entrenar_common.errors import FormatError
from entrenar_common.text import escape_controls
from entrenar_core.io import files
from entrenar_core.io.os_calls import read_errors
from entrenar_core.train.callbacks import Callback, Run
from entrenar_core.train.exporters.figures import flat

__all__ = ["CsvLog"]

_FIRST = ["phase", "step"]


class CsvLog(Callback):
    """Writes every step of a run to the CSV file at `path`, with a header (RFC 4180, but `\\n`).

    Numbers are as in `metrics.jsonl`, so reading them gives the same floats; what is not known of a
    step, or is not finite, is an empty cell. Columns are those of the first step, `phase` and
    `step` before the others; a figure that comes up later gets a column at the end, for which the
    file is written anew. A training that goes on drops the rows of steps that it takes again.

    Raises, before the first step, StorageError when the file cannot be written and FormatError when
    it is not such a table.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self._columns: list[str] = []

    def started(self, run: Run) -> None:
        files.make_folder(self.path.parent)
        files.append(self.path, b"")
        self._columns = self._header()
        others: list[bytes] = []
        own: list[bytes] = []
        dropped = 0
        for line, (phase, step) in self._rows():
            if phase != run.phase:
                others.append(line)
            elif step <= run.first_step:
                own.append(line)
            else:
                dropped += 1
        if dropped or self._torn() or (own and others):
            self._replace([*others, *own])

    def step(self, record: Mapping[str, Any]) -> None:
        cells = {name: _cell(value) for name, value in flat(record)}
        first = [] if self._columns else _FIRST
        if new := [n for n in (*first, *cells) if n not in self._columns]:
            lines = [line for line, _ in self._rows()]
            gap = b"," * len(new) if self._columns else b""
            self._columns += dict.fromkeys(new)
            self._replace([line[:-1] + gap + b"\n" for line in lines])
        files.append(self.path, _line([cells.get(name, "") for name in self._columns]))

    def saved(self, path: Path, step: int) -> None:  # noqa: ARG002
        """Put the rows on the disk: those up to a checkpoint are not made again."""
        files.sync(self.path)

    def _replace(self, lines: Sequence[bytes]) -> None:
        with files.open_atomic(self.path) as file:
            if self._columns:
                file.write(_line(self._columns))
            file.write(b"".join(lines))

    def _torn(self) -> bool:
        """Whether the file ends in a line that was cut off."""
        return any(not line.endswith(b"\n") for line in self._lines())

    def _lines(self) -> Iterator[bytes]:
        with read_errors(self.path), self.path.open("rb") as file:
            yield from file

    def _header(self) -> list[str]:
        line = next(self._lines(), b"")
        if not line:
            return []
        columns = self._parsed(line, 1)
        if columns[:2] != _FIRST:
            raise self._strange(1)
        return columns

    def _rows(self) -> Iterator[tuple[bytes, tuple[str, int]]]:
        """The whole rows, with their newline, and which phase and step each is of."""
        for number, line in enumerate(self._lines(), 1):
            if number == 1 or not line.endswith(b"\n"):
                continue
            cells = self._parsed(line, number)
            if len(cells) != len(self._columns) or not cells[1].isdecimal():
                raise self._strange(number)
            yield line, (cells[0], int(cells[1]))

    def _parsed(self, line: bytes, number: int) -> list[str]:
        try:
            return next(csv.reader([line.decode()], strict=True))
        except (ValueError, csv.Error):
            raise self._strange(number) from None

    def _strange(self, number: int) -> FormatError:
        return FormatError(
            f"{self.path}:{number}: not a line of a training's table",
            hint="give the table a path of its own, or move that file away",
        )


def _line(cells: Sequence[str]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(cells)
    return text.getvalue().encode()


def _cell(value: Any) -> str:
    """A value as JSON writes it; text as it is, on one line."""
    if isinstance(value, str):
        return escape_controls(value)
    if isinstance(value, float) and not math.isfinite(value):
        return ""
    return "" if value is None else json.dumps(value)
