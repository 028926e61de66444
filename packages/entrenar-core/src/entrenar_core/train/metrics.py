"""`metrics.jsonl`: one line for every training step, which a resumed run continues exactly."""

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from entrenar_core.io import files

READINGS = ("seconds", "tokens_per_second", "memory_bytes")
"""Keys that say how a step went on this machine. All others are the same in every equal run."""


class MetricsLog:
    """The metrics of the phases of one run, in the order in which they were trained."""

    def __init__(self, path: Path):
        self.path = path

    def append(self, record: Mapping[str, Any]) -> None:
        """Add a line. NaN and infinity, which JSON has not, are written as null."""
        files.append_line(self.path, json.dumps({k: _finite(v) for k, v in record.items()}))

    def rewind(self, phase: str, step: int) -> None:
        """Drop the lines of `phase` after `step`, and a line that was cut off while written."""
        if not self.path.exists():
            return
        kept = "".join(
            line + "\n"
            for line, record in self._lines()
            if record["phase"] != phase or record["step"] <= step
        )
        if kept.encode() != self.path.read_bytes():
            files.write_text(self.path, kept)

    def records(self, phase: str) -> list[dict[str, Any]]:
        """The records of one phase, oldest first."""
        if not self.path.exists():
            return []
        return [record for _, record in self._lines() if record["phase"] == phase]

    def _lines(self) -> Iterator[tuple[str, dict[str, Any]]]:
        # only the last line, which has no newline, can be torn
        whole, _, _ = files.read_text(self.path).rpartition("\n")
        for line in whole.splitlines():
            yield line, json.loads(line)


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
