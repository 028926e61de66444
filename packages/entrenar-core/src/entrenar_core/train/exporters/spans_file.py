"""`spans.jsonl`: where the time of a training went, one line for each span."""

import json
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from entrenar_core.io import files
from entrenar_core.io.os_calls import read_errors
from entrenar_core.train.callbacks import Callback, Outcome, Run
from entrenar_core.train.trace import Span

__all__ = ["SpansLog"]


class SpansLog(Callback):
    """Appends to the file at `path` a line for each span, as it ends:

        {"trace": "5f…", "phase": "student", "name": "forward", "number": 5, "parent": 3,
         "started": 1764230844000000000, "seconds": 0.0121, "resident_bytes": 104857600, …}

    `trace` is the same for the spans of a process that trains a phase, within which `number` and
    `parent` are unique; `started` is in nanoseconds since 1970. What else a span says is under
    `attributes`. A training that goes on appends: steps that are taken again took their time twice.

    Raises StorageError, before the first step, when the file cannot be written.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self._lines: list[str] = []
        self._run: dict[str, Any] = {}
        self._zero = 0

    def started(self, run: Run) -> None:
        self._run = {"trace": secrets.token_hex(16), "phase": run.phase}
        self._zero = run.zero
        files.make_folder(self.path.parent)
        files.append(self.path, b"")
        self._drop_torn_line()

    def span(self, span: Span) -> None:
        record = {
            **self._run,
            "name": span.name,
            "number": span.number,
            "parent": span.parent,
            "started": self._zero + span.started,
            "seconds": span.seconds,
            "resident_bytes": span.resident_bytes,
            "attributes": dict(span.attributes),
        }
        self._lines.append(json.dumps(record) + "\n")

    def step(self, record: Mapping[str, Any]) -> None:  # noqa: ARG002
        """Write the spans of a step at once, which is a tenth of the work."""
        self._write()

    def saved(self, path: Path, step: int) -> None:  # noqa: ARG002
        self._write()
        files.sync(self.path)

    def ended(self, outcome: Outcome) -> None:  # noqa: ARG002
        self._write()

    def _write(self) -> None:
        if self._lines:
            files.append(self.path, "".join(self._lines).encode())
            self._lines.clear()

    def _drop_torn_line(self) -> None:
        """Drop a last line that was cut off, as a loss of power does."""
        with read_errors(self.path), self.path.open("rb") as file:
            file.seek(max(0, self.path.stat().st_size - 1))
            if file.read(1) in (b"", b"\n"):
                return
        written = files.read_bytes(self.path)
        files.write_bytes(self.path, written[: written.rfind(b"\n") + 1])
