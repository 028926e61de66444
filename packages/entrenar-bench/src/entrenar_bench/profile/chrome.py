"""Spans as JSON in the trace-event format, which chrome://tracing and Perfetto open.

Source: "Trace Event Format", the Chromium project. Spans are complete events (ph "X") with times in
microseconds, what was held in memory is a counter (ph "C"), and names are metadata (ph "M").
"""

from collections.abc import Mapping, Sequence
from typing import Any

from entrenar_bench.profile.frames import OPERATION
from entrenar_core.train.trace import Span

__all__ = ["chrome_trace"]

_PROCESS = _THREAD = 1


def chrome_trace(spans: Sequence[Span], *, name: str) -> dict[str, Any]:
    """The document of `spans`, of a process called `name`. Times are from the first beginning on,
    and what is inside comes after what is around it."""
    begun = min((span.started for span in spans), default=0)
    ordered = sorted(spans, key=lambda span: (span.started, -span.ended))
    events = [_metadata("process_name", name), _metadata("thread_name", "training")]
    events += [_complete(span, begun) for span in ordered]
    by_end = sorted(spans, key=lambda span: span.ended)
    events += [_counter(span, begun) for span in by_end if span.resident_bytes]
    return {"traceEvents": events, "displayTimeUnit": "ms"}


def _metadata(kind: str, name: str) -> dict[str, Any]:
    return {"ph": "M", "name": kind, "pid": _PROCESS, "tid": _THREAD, "args": {"name": name}}


def _complete(span: Span, begun: int) -> dict[str, Any]:
    arguments: Mapping[str, Any] = {**span.attributes}
    is_operation = span.name == OPERATION
    return {
        "ph": "X",
        "name": str(span.attributes["op"]) if is_operation else span.name,
        "cat": str(span.attributes["direction"]) if is_operation else "training",
        "ts": (span.started - begun) / 1000,
        "dur": (span.ended - span.started) / 1000,
        "pid": _PROCESS,
        "tid": _THREAD,
        "args": arguments,
    }


def _counter(span: Span, begun: int) -> dict[str, Any]:
    return {
        "ph": "C",
        "name": "memory",
        "ts": (span.ended - begun) / 1000,
        "pid": _PROCESS,
        "tid": _THREAD,
        "args": {"resident bytes": span.resident_bytes},
    }
