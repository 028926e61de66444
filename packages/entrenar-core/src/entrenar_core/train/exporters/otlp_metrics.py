"""Figures of a training as OTLP's metrics: a point of each for every step.

Source: metrics.proto of github.com/open-telemetry/opentelemetry-proto, 1.x.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from entrenar_core.train.exporters import otlp_common, protobuf
from entrenar_core.train.exporters.measures import GAUGES, RESIDENT, TOTALS, Figure
from entrenar_core.train.trace import Attribute

__all__ = ["Point", "metrics_request"]

_CUMULATIVE = 2  # AggregationTemporality


@dataclass(frozen=True, slots=True)
class Point:
    """The figures of a step. Times are nanoseconds since 1970; `started` is when sums began."""

    phase: str
    started: int
    time: int
    gauges: Mapping[Figure, float]
    totals: Mapping[Figure, int]


def metrics_request(points: Sequence[Point], *, resource: Mapping[str, Attribute]) -> bytes:
    """An ExportMetricsServiceRequest."""
    metrics = [_gauge(figure, points) for figure in (*GAUGES, RESIDENT)]
    metrics += [_sum(figure, points) for figure in TOTALS]
    return protobuf.message(
        1,
        otlp_common.resource(resource),
        protobuf.message(2, otlp_common.scope(), b"".join(metrics)),
    )


def _gauge(figure: Figure, points: Sequence[Point]) -> bytes:
    """A metric, or nothing where no step had the figure."""
    found = [
        protobuf.message(1, _place(point), protobuf.double(4, point.gauges[figure]))
        for point in points
        if figure in point.gauges
    ]
    return protobuf.message(2, _about(figure), protobuf.message(5, *found)) if found else b""


def _sum(figure: Figure, points: Sequence[Point]) -> bytes:
    found = [
        protobuf.message(
            1,
            protobuf.fixed64(2, point.started),
            _place(point),
            protobuf.fixed64(6, point.totals[figure]),
        )
        for point in points
    ]
    kind = protobuf.integer(2, _CUMULATIVE) + protobuf.integer(3, True)
    return protobuf.message(2, _about(figure), protobuf.message(7, *found, kind))


def _about(figure: Figure) -> bytes:
    return (
        protobuf.delimited(1, figure.full_name)
        + protobuf.delimited(2, figure.description)
        + protobuf.delimited(3, figure.unit)
    )


def _place(point: Point) -> bytes:
    phase = otlp_common.attributes(7, {"entrenar.training.phase": point.phase})
    return protobuf.fixed64(3, point.time) + phase
