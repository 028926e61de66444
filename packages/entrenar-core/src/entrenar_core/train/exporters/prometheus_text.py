"""Figures in the two text formats that Prometheus reads.

Sources: "Exposition formats" of the Prometheus documentation, version 0.0.4; OpenMetrics 1.0.0.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import entrenar_core
from entrenar_core.train.exporters.measures import GAUGES, RESIDENT, TOTALS, Figure

__all__ = ["OPEN_METRICS", "TEXT", "Series", "exposition", "wanted_format"]

TEXT = "text/plain; version=0.0.4; charset=utf-8"
OPEN_METRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"

_UNITS = {"By": "bytes", "s": "seconds"}
"""Units that are part of a name; what is counted or has none is not."""


@dataclass(frozen=True)
class Series:
    """The figures of one phase of a run; `gauges` are left out when it is over."""

    phase: str
    gauges: Mapping[Figure, float]
    totals: Mapping[Figure, int]


def exposition(
    series: Sequence[Series], *, content_type: str, run_id: str = "", resident: int = 0
) -> str:
    """What is answered, in the format of that type. `resident`: bytes in memory; 0 is unknown."""
    text = Text(open_metrics=content_type == OPEN_METRICS)
    text.information(
        {"version": entrenar_core.__version__, **({"run_id": run_id} if run_id else {})}
    )
    for figure in GAUGES:
        text.family(figure, "gauge", {s.phase: s.gauges.get(figure) for s in series})
    if resident:
        text.family(RESIDENT, "gauge", {"": resident})
    for figure in TOTALS:
        text.family(figure, "counter", {s.phase: s.totals[figure] for s in series})
    return text.finished()


class Text:
    """The lines of an answer."""

    def __init__(self, *, open_metrics: bool):
        self.open_metrics = open_metrics
        self.lines: list[str] = []

    def information(self, labels: Mapping[str, str]) -> None:
        """A metric whose labels say something, and whose value is 1."""
        name = "entrenar_training"
        if self.open_metrics:
            self._about(name, "info", "", "The run that is asked.")
        else:
            self._about(f"{name}_info", "gauge", "", "The run that is asked.")
        self.lines.append(f"{name}_info{_labels(labels)} 1")

    def family(self, figure: Figure, kind: str, values: Mapping[str, float | None]) -> None:
        """A metric with a value for each phase that has one; nothing when none has."""
        found = {phase: value for phase, value in values.items() if value is not None}
        if not found:
            return
        unit = _UNITS.get(figure.unit, "")
        name = figure.full_name.replace(".", "_") + (f"_{unit}" if unit else "")
        sample = f"{name}_total" if kind == "counter" else name
        self._about(name if self.open_metrics else sample, kind, unit, figure.description)
        for phase, value in found.items():
            labels = _labels({"phase": phase} if phase else {})
            self.lines.append(f"{sample}{labels} {_number(value)}")

    def finished(self) -> str:
        """All lines, with the end that OpenMetrics asks for."""
        end = ["# EOF"] if self.open_metrics else []
        return "\n".join([*self.lines, *end, ""])

    def _about(self, name: str, kind: str, unit: str, description: str) -> None:
        self.lines.append(f"# HELP {name} {description}")
        self.lines.append(f"# TYPE {name} {kind}")
        if unit and self.open_metrics:
            self.lines.append(f"# UNIT {name} {unit}")


def wanted_format(accept: str) -> str:
    """The type that a request's Accept prefers, of the two.

    >>> wanted_format("application/openmetrics-text;version=1.0.0,text/plain;q=0.5") == OPEN_METRICS
    True
    >>> wanted_format("*/*") == TEXT
    True
    """
    found = dict(_accepted(accept))
    open_metrics = found.get("application/openmetrics-text", 0.0)
    text = max(found.get(kind, 0.0) for kind in ("text/plain", "text/*", "*/*"))
    return OPEN_METRICS if open_metrics and open_metrics >= text else TEXT


def _accepted(accept: str) -> Iterator[tuple[str, float]]:
    for each in accept.split(","):
        kind, *parameters = (part.strip().lower() for part in each.split(";"))
        weight = next((p[2:] for p in parameters if p.startswith("q=")), "1")
        try:
            yield kind, float(weight)
        except ValueError:
            yield kind, 0.0


def _labels(labels: Mapping[str, str]) -> str:
    if not labels:
        return ""
    pairs = (f'{name}="{_escaped(value)}"' for name, value in labels.items())
    return "{" + ",".join(pairs) + "}"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')


def _number(value: float) -> str:
    if math.isnan(value):
        return "NaN"
    return repr(value) if math.isfinite(value) else f"{'+' if value > 0 else '-'}Inf"
