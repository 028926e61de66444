"""Spans of a training as OTLP's: a trace for each phase, whose root is the span of the phase.

Source: trace.proto of github.com/open-telemetry/opentelemetry-proto, 1.x.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from entrenar_core.train.callbacks import Run
from entrenar_core.train.exporters import otlp_common, protobuf
from entrenar_core.train.exporters.attributes import flattened, sendable
from entrenar_core.train.exporters.protobuf import delimited
from entrenar_core.train.trace import Attribute, Span

__all__ = ["Event", "Trace", "traces_request"]

_INTERNAL, _ERROR = 1, 2  # SpanKind, StatusCode
_PREFIX = "entrenar.training."
_NAMES = {"error": "error.type"}
"""Attributes that OpenTelemetry has a name for; all others get ours before them."""


@dataclass(frozen=True, slots=True)
class Event:
    """Something that takes no time.

    time:   nanoseconds since 1970
    parent: number of the span that it happened in
    """

    name: str
    time: int
    parent: int | None
    attributes: Mapping[str, Attribute]


class Trace:
    """Identifies the spans of one phase, the `run`, after those of the phase `before`."""

    def __init__(self, run: Run, *, before: "Trace | None" = None):
        # from the system: the numbers that a program draws stay what they are without a trace
        self.identifier = os.urandom(16)
        self.run = run
        self.root: int | None = None
        """Number of the outermost span, once it ended."""
        self.before = before
        if before is not None:
            before.before = None  # which need not be kept any more
        self._first = int.from_bytes(os.urandom(8), "big") >> 1

    def span_identifier(self, number: int) -> bytes:
        """Of the span of that number: 8 bytes, not all of them 0."""
        return (self._first + number).to_bytes(8, "big")


def traces_request(
    items: Sequence[Span | Event], *, trace: Trace, resource: Mapping[str, Attribute]
) -> bytes:
    """An ExportTraceServiceRequest."""
    spans = b"".join(
        protobuf.message(
            2, _span(item, trace) if isinstance(item, Span) else _event(item, trace=trace)
        )
        for item in items
    )
    return protobuf.message(
        1, otlp_common.resource(resource), protobuf.message(2, otlp_common.scope(), spans)
    )


def _span(span: Span, trace: Trace) -> bytes:
    named = {_NAMES.get(name) or _PREFIX + name: v for name, v in span.attributes.items()}
    if span.resident_bytes:
        named["process.memory.usage"] = span.resident_bytes
    zero = trace.run.zero
    parts = [
        _identified(span.name, trace, trace.span_identifier(span.number), span.parent),
        _timed(zero + span.started, zero + span.ended),
        otlp_common.attributes(9, sendable(named)),
    ]
    if span.parent is None:
        parts += [_of_run(trace.run), _link(trace.before)]
    if error := _error(span.attributes):
        parts.append(protobuf.message(15, delimited(2, error), protobuf.integer(3, _ERROR)))
    return b"".join(parts)


def _event(event: Event, *, trace: Trace) -> bytes:
    named = {_PREFIX + name: value for name, value in event.attributes.items()}
    return (
        _identified(event.name, trace, os.urandom(8), event.parent)
        + _timed(event.time, event.time)
        + otlp_common.attributes(9, sendable(named))
    )


def _identified(name: str, trace: Trace, identifier: bytes, parent: int | None) -> bytes:
    return (
        delimited(1, trace.identifier)
        + delimited(2, identifier)
        + (b"" if parent is None else delimited(4, trace.span_identifier(parent)))
        + delimited(5, name)
        + protobuf.integer(6, _INTERNAL)
    )


def _timed(started: int, ended: int) -> bytes:
    return protobuf.fixed64(7, started) + protobuf.fixed64(8, ended)


def _of_run(run: Run) -> bytes:
    """What the outermost span says besides its own attributes."""
    about: dict[str, Attribute] = {
        "first_step": run.first_step,
        "total_steps": run.total_steps,
        "steps_per_epoch": run.steps_per_epoch,
        "parameters": run.parameters,
    }
    settings = flattened(run.settings, prefix=f"{_PREFIX}settings.")
    return otlp_common.attributes(9, {**{_PREFIX + n: v for n, v in about.items()}, **settings})


def _link(before: Trace | None) -> bytes:
    """To the root of another trace, if that was sent."""
    if before is None or before.root is None:
        return b""
    root = before.span_identifier(before.root)
    return protobuf.message(13, delimited(1, before.identifier), delimited(2, root))


def _error(attributes: Mapping[str, Attribute]) -> str:
    """Why a span is one of an error; those around an error say only that the phase failed."""
    failed = "the training failed" if attributes.get("outcome") == "failed" else ""
    return str(attributes.get("error", failed))
