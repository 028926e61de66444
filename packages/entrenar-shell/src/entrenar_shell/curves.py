"""The loss of a training, from what it logged."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from entrenar_common.errors import NotFoundError, UsageError
from entrenar_common.plot import Glyphs, framed
from entrenar_common.tables import Text
from entrenar_core.train.metrics import MetricsLog
from entrenar_shell.knowledge import last_made, meant
from entrenar_shell.session import Session

__all__ = ["Curve", "Curves", "Drawn", "curves", "log_of"]

METRICS = "metrics.jsonl"
_WIDTH = 76


@dataclass(frozen=True)
class Curve:
    """The loss of one phase of a run at `steps`, and `held_out` at the steps where it was
    measured; steps whose loss was not finite are left out."""

    phase: str
    steps: tuple[int, ...]
    losses: tuple[float, ...]
    held_out: tuple[tuple[int, float], ...]


@dataclass(frozen=True)
class Curves:
    """The losses of a run, phase by phase."""

    log: str
    curves: tuple[Curve, ...]


@dataclass(frozen=True)
class Drawn:
    """Curves with what to draw them with, and how many lines each may take."""

    found: Curves
    glyphs: Glyphs
    height: int

    def __view__(self) -> list[Any]:
        parts: list[Any] = []
        for curve in self.found.curves:
            first, last = curve.losses[0], curve.losses[-1]
            title = f"{curve.phase}: loss {first:.4g} at step {curve.steps[0]}, "
            title += f"{last:.4g} at step {curve.steps[-1]}"
            if curve.held_out:
                title += f"; {self.glyphs.mark} held out {curve.held_out[-1][1]:.4g}"
            parts += [Text(title, "title"), Text("\n".join(self._lines(curve)))]
        return parts

    def _lines(self, curve: Curve) -> list[str]:
        line = list(zip(curve.steps, curve.losses, strict=True))
        steps = (curve.steps[0], curve.steps[-1])
        found = framed(
            line, curve.held_out, width=_WIDTH, rows=self.height, steps=steps, glyphs=self.glyphs
        )
        assert found is not None  # labels are never that wide
        axis = self.glyphs.axis
        rows = zip(found.labels, found.rows, strict=True)
        return [*(f"{label}{axis}{row}" for label, row in rows), found.floor, found.below]


def log_of(run: str | None, session: Session) -> Path:
    """The log of a run: of the folder, file, model or output that is meant, by default of what was
    trained last.

    Raises UsageError where nothing was trained yet, NotFoundError where there is no log.
    """
    found = meant(run, session) if run is not None else last_made(session)
    if found is None:
        raise UsageError(
            "plot loss: nothing was trained in this session", hint="say which: plot loss FOLDER"
        )
    path = Path(found).expanduser()
    log = path / METRICS if path.is_dir() else path
    if not log.is_file():
        raise NotFoundError(
            f"{log}: no such file",
            hint="give the folder of a run, such as 'output' of a distillation",
        )
    return log


def curves(log: Path) -> Curves:
    """What a log has of losses. Raises FormatError for what is no log of a training."""
    phases: dict[str, list[Mapping[str, Any]]] = {}
    for record in MetricsLog(log):
        phases.setdefault(str(record["phase"]), []).append(record)
    found = (_curve(phase, records) for phase, records in phases.items())
    return Curves(str(log), tuple(curve for curve in found if curve.steps))


def _curve(phase: str, records: Iterable[Mapping[str, Any]]) -> Curve:
    kept = list(records)
    line = list(_points(kept, "loss"))
    return Curve(
        phase, tuple(step for step, _ in line), tuple(loss for _, loss in line),
        tuple(_points(kept, "held_out_loss")),
    )  # fmt: skip


def _points(records: Iterable[Mapping[str, Any]], name: str) -> Iterator[tuple[int, float]]:
    for record in records:
        value = record.get(name)
        if isinstance(value, int | float) and math.isfinite(value):
            yield int(record["step"]), float(value)
