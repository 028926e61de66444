"""A training's spans and figures to a collector of OpenTelemetry, while it goes on."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from entrenar_core.train.callbacks import Callback, Notice, Outcome, Run
from entrenar_core.train.exporters.background import BackgroundQueue, Undelivered
from entrenar_core.train.exporters.measures import RESIDENT, Figures, finite
from entrenar_core.train.exporters.otlp_client import Client, NotSent
from entrenar_core.train.exporters.otlp_metrics import Point, metrics_request
from entrenar_core.train.exporters.otlp_section import OtlpSettings
from entrenar_core.train.exporters.otlp_spans import Event, Trace, traces_request
from entrenar_core.train.trace import Span, resident_bytes

__all__ = ["OtlpExporter"]

_BETWEEN_WARNINGS = 600.0  # seconds, over all phases
Item = Span | Event | Point


class OtlpExporter(Callback):
    """Sends each span and the figures of each step, in batches, from a thread of its own.

    A phase of training is a trace: `run` is its root, and links to the phase before. What goes on
    from a checkpoint is another trace with the same `entrenar.run.id`. A notice is a span without
    length. A collector that is down, slow or of another mind costs what it was to be told, never
    a training: `warn` hears of it, at most once in ten minutes.

    capacity: how many spans and steps may wait; others are lost
    batch, interval: how many are sent at once, and after how many seconds at the latest
    patience, backoff: how long a batch is tried again; see `Client`
    closing: seconds that the end of a phase may wait for what is left
    """

    def __init__(
        self,
        settings: OtlpSettings,
        *,
        warn: Callable[[str], None],
        capacity: int = 20_000,
        batch: int = 500,
        interval: float = 2.0,
        patience: float = 30.0,
        backoff: float = 1.0,
        closing: float = 2.0,
    ):
        self._settings, self._warn, self._closing = settings, warn, closing
        self._capacity, self._batch, self._interval = capacity, batch, interval
        self._patience, self._backoff = patience, backoff
        self._phase: Phase | None = None
        self._trace: Trace | None = None
        self._warned: float | None = None
        self.lost = 0
        """How many spans and steps the phases that ended did not get through."""

    def started(self, run: Run) -> None:
        self._stop()  # a phase that another callback kept from beginning was not ended
        self._trace = Trace(run, before=self._trace)
        phase = Phase(self._settings, self._trace)
        phase.queue = BackgroundQueue(
            phase.deliver,
            capacity=self._capacity,
            batch=self._batch,
            interval=self._interval,
            name="otlp",
            warn=self._seldom,
        )
        phase.connect(patience=self._patience, backoff=self._backoff)
        self._phase = phase

    def span(self, span: Span) -> None:
        if self._phase is not None:
            self._phase.span(span)

    def step(self, record: Mapping[str, Any]) -> None:
        if self._phase is not None:
            self._phase.step(record)

    def noticed(self, notice: Notice) -> None:
        if self._phase is not None:
            self._phase.noticed(notice)

    def ended(self, outcome: Outcome) -> None:  # noqa: ARG002 - its span says it
        self._stop()

    def _stop(self) -> None:
        if self._phase is not None:
            self.lost += self._phase.queue.close(self._closing)
            self._phase = None

    def _seldom(self, message: str) -> None:
        """Warn, unless another phase did so a short while ago."""
        now = time.monotonic()
        if self._warned is None or now - self._warned >= _BETWEEN_WARNINGS:
            self._warned = now
            self._warn(message)


class Phase:
    """What is sent of one phase of training."""

    queue: BackgroundQueue[Item]

    def __init__(self, settings: OtlpSettings, trace: Trace):
        self._settings, self._trace = settings, trace
        self._figures, self._began = Figures(), time.time_ns()
        self._around: int | None = None
        self._clients: dict[str, Client] = {}

    def connect(self, *, patience: float, backoff: float) -> None:
        """Know where to send. Raises ConfigError when certificates to trust cannot be read."""
        addresses = {"metrics": self._settings.metrics, "traces": self._settings.traces}
        self._clients = {
            signal: Client(address, wait=self._wait, patience=patience, backoff=backoff)
            for signal, address in addresses.items()
            if address is not None
        }

    def span(self, span: Span) -> None:
        if "traces" not in self._clients:
            return
        self._around = span.parent
        if span.parent is None:
            self._trace.root = span.number
        self.queue.put(span)

    def step(self, record: Mapping[str, Any]) -> None:
        if "metrics" not in self._clients:
            return
        gauges = finite(self._figures.step(record))
        if resident := resident_bytes():
            gauges[RESIDENT] = float(resident)
        now = max(time.time_ns(), self._began)
        phase = self._trace.run.phase
        self.queue.put(Point(phase, self._began, now, gauges, self._figures.totals))

    def noticed(self, notice: Notice) -> None:
        if "traces" not in self._clients:
            return
        about = {
            "notice.kind": notice.kind,
            "notice.severity": notice.severity,
            "notice.message": notice.message,
            "step": notice.step,
        }
        self.queue.put(Event("notice", time.time_ns(), self._around, about))

    def deliver(self, items: list[Item]) -> None:
        """Send figures, which are few, and then spans; what one lost is no reason to lose both."""
        resource, trace = self._settings.resource, self._trace
        points = [item for item in items if isinstance(item, Point)]
        spans = [item for item in items if not isinstance(item, Point)]
        lost = [
            self._send("metrics", points, lambda: metrics_request(points, resource=resource)),
            self._send(
                "traces", spans, lambda: traces_request(spans, trace=trace, resource=resource)
            ),
        ]
        if reasons := [why for _, why in lost if why]:
            raise Undelivered("; ".join(reasons), lost=sum(count for count, _ in lost))

    def _wait(self, seconds: float) -> bool:
        return self.queue.closing.wait(seconds)

    def _send(
        self, signal: str, items: Sequence[Item], message: Callable[[], bytes]
    ) -> tuple[int, str]:
        """How many of the items were lost, and why."""
        if not items:
            return 0, ""
        try:
            rejected, why = self._clients[signal].post(message())
        except NotSent as error:
            return len(items), str(error)
        # a collector counts figures, of which a step has several
        said = f"{rejected} of the {signal} were rejected: {why}" if rejected else ""
        return min(rejected, len(items)), said
