"""`metrics.jsonl`: one line for every training step, which a resumed run continues exactly."""

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from entrenar_common.errors import FormatError
from entrenar_core.io import files
from entrenar_core.io.os_calls import read_errors

READINGS = ("seconds", "tokens_per_second", "memory_bytes")
"""Keys that say how a step went on this machine. All others are the same in every equal run."""


class MetricsLog:
    """The metrics of the phases of one run, in the order in which they were trained."""

    def __init__(self, path: Path):
        self.path = path

    def append(self, record: Mapping[str, Any]) -> None:
        """Add a line. NaN and infinity, which JSON has not, are written as null."""
        files.append_line(self.path, json.dumps(_finite({**record})))

    def sync(self) -> None:
        """Put the lines on the disk, as a checkpoint is about to count on them."""
        files.sync(self.path)

    def rewind(self, phase: str, step: int) -> int:
        """Drop the lines of `phase` after `step`, and a line that was cut off while written.

        What is left of the phase comes last, where it goes on: also when a later phase has been
        logged already, the phases are in order again once each has been continued. Returns how many
        steps were dropped.
        """
        others: list[bytes] = []
        own: list[bytes] = []
        dropped = size = 0
        for line, record in self._lines():
            size += len(line)
            if record["phase"] != phase:
                others.append(line)
            elif record["step"] <= step:
                own.append(line)
            else:
                dropped += 1
        whole = size == (self.path.stat().st_size if self.path.exists() else 0)
        if dropped or not whole or (own and others):
            with files.open_atomic(self.path) as file:
                file.write(b"".join(others))
                file.write(b"".join(own))
        return dropped

    def records(self, phase: str) -> list[dict[str, Any]]:
        """The records of one phase, oldest first."""
        return [record for _, record in self._lines() if record["phase"] == phase]

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """The records of all phases, in the order of the file."""
        return (record for _, record in self._lines())

    def _lines(self) -> Iterator[tuple[bytes, dict[str, Any]]]:
        """The whole lines, with their newline; a log grows for months, so none is too long."""
        if not self.path.exists():
            return
        with read_errors(self.path), self.path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if line.endswith(b"\n"):  # only the last line can be torn
                    yield line, self._parsed(line, number)

    def _parsed(self, line: bytes, number: int) -> dict[str, Any]:
        try:
            record = json.loads(line)
        except ValueError:
            record = None
        if not isinstance(record, dict) or not {"phase", "step"} <= record.keys():
            raise FormatError(
                f"{self.path}:{number}: not a line of a training log",
                hint="remove that line, and the run can go on",
            )
        return record


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _finite(v) for k, v in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value
