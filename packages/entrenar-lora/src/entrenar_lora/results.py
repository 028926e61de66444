"""Measured quality of methods, from the results of real runs."""

import math
import statistics
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from entrenar_common.errors import FormatError
from entrenar_core.io.strict_json import parse_json, read_text

HOW = (
    "Quality is not shown: it can only be measured. Train with each method and several seeds, and "
    "give the held-out losses with --results, a file with one line of JSON for each run: "
    '{"method": "lora-16", "seed": 1, "held_out_loss": 2.31}'
)


@dataclass(frozen=True)
class Quality:
    """The held-out losses of one method: their mean, their standard deviation (None for one run),
    and how many runs there were."""

    mean: float
    deviation: float | None
    runs: int

    def __str__(self) -> str:
        spread = "" if self.deviation is None else f" ± {self.deviation:.4f}"
        noun = "run" if self.runs == 1 else "runs"
        return f"{self.mean:.4f}{spread} ({self.runs} {noun})"


def read_results(path: Path) -> dict[str, Quality]:
    """The quality of each method in a file of JSON lines, which `HOW` describes; further keys of a
    line are passed over.

    Raises NotFoundError without the file, FormatError for a line that is none of these.
    """
    losses: dict[str, list[float]] = {}
    for number, line in enumerate(read_text(path).splitlines(), 1):
        if line.strip():
            method, loss = _run(parse_json(line, f"{path}:{number}"), f"{path}:{number}")
            losses.setdefault(method, []).append(loss)
    if not losses:
        raise FormatError(f"{path}: no runs in it", hint=HOW)
    return {method: _quality(values) for method, values in losses.items()}


def _run(record: Any, where: str) -> tuple[str, float]:
    known = record if isinstance(record, dict) else {}
    method, loss = known.get("method"), _finite(known.get("held_out_loss"))
    if not isinstance(method, str) or loss is None:
        raise FormatError(
            f"{where}: no run of a method with its held-out loss",
            hint='write a line like {"method": "lora-16", "seed": 1, "held_out_loss": 2.31}',
        )
    return method, loss


def _finite(value: Any) -> float | None:
    """A number as a float, None for everything else."""
    if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
        return None
    return float(value)


def _quality(losses: Iterable[float]) -> Quality:
    values = list(losses)
    deviation = statistics.stdev(values) if len(values) > 1 else None
    return Quality(statistics.fmean(values), deviation, len(values))
