"""An address at which Prometheus finds the figures of a training, while it goes on."""

import os
import socket
import socketserver
import threading
import time
import weakref
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler
from typing import Any

import entrenar_core
from entrenar_common.errors import ConfigError
from entrenar_core.train.callbacks import Callback, Outcome, Run
from entrenar_core.train.exporters.measures import Figures
from entrenar_core.train.exporters.prometheus_section import PrometheusSection
from entrenar_core.train.exporters.prometheus_text import Series, exposition, wanted_format
from entrenar_core.train.exporters.received import Received
from entrenar_core.train.trace import resident_bytes

__all__ = ["PrometheusEndpoint"]

_MOST_AT_ONCE = 8  # connections; others are closed
_PATIENCE = 5.0  # seconds that a client may take to say what it wants
_alive: "weakref.WeakSet[PrometheusEndpoint]" = weakref.WeakSet()


class PrometheusEndpoint(Callback):
    """Answers at `http://HOST:PORT/metrics` from the beginning of a phase to its end.

    Figures have the label `phase`, and those of phases that are over are sums only. Raises
    ConfigError, before the first step, when nothing can listen there.
    """

    def __init__(self, section: PrometheusSection, *, run_id: str = ""):
        self._host, self._port, self._run_id = section.host, section.port, run_id
        self._phases: dict[str, Figures] = {}
        self._phase = ""
        self._server: Server | None = None
        _alive.add(self)

    @property
    def address(self) -> str:
        """Where it answers; empty while it does not."""
        if self._server is None:
            return ""
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"http://{host}:{self._port}/metrics"

    def started(self, run: Run) -> None:
        self._stop()  # a phase that another callback kept from beginning was not ended
        self._server = _listening_at(self._host, self._port, self)
        self._port = self._server.server_address[1]  # one that was any stays what it became
        self._phase = run.phase
        self._phases = {**self._phases, run.phase: Figures()}
        threading.Thread(
            target=self._server.serve_forever, args=(0.05,), name="prometheus", daemon=True
        ).start()

    def step(self, record: Mapping[str, Any]) -> None:
        self._phases[self._phase].step(record)

    def ended(self, outcome: Outcome) -> None:  # noqa: ARG002 - no figure of these says it
        self._stop()

    def _stop(self) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def forked(self) -> None:
        """A child has the socket too, and would keep the port when its parent is done."""
        if self._server is not None:
            self._server.socket.close()
            self._server = None

    def text(self, content_type: str) -> str:
        """What is answered now, in that format."""
        series = [
            Series(phase, figures.gauges if phase == self._phase else {}, figures.totals)
            for phase, figures in self._phases.items()
        ]
        return exposition(
            series, content_type=content_type, run_id=self._run_id, resident=resident_bytes()
        )


class Server(socketserver.ThreadingTCPServer):
    """Listens; each connection has a thread, up to so many at once."""

    allow_reuse_address = True  # or a run that begins where one has just ended finds its port busy
    daemon_threads = True
    block_on_close = False

    def __init__(self, address: tuple[str, int], endpoint: PrometheusEndpoint, *, family: int):
        self.address_family = family
        self.endpoint = endpoint
        self._free = threading.BoundedSemaphore(_MOST_AT_ONCE)
        super().__init__(address, Answer)

    def process_request(self, request: Any, client_address: Any) -> None:
        if self._free.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is nobody's concern."""


class Answer(BaseHTTPRequestHandler):
    """One request, for the figures or for something that is not there."""

    server: Server  # pyright: ignore[reportIncompatibleVariableOverride]
    server_version = f"entrenar/{entrenar_core.__version__}"
    sys_version = ""

    def setup(self) -> None:
        super().setup()
        self.rfile = Received(self.request, time.monotonic() + _PATIENCE).makefile("rb")

    def do_GET(self) -> None:
        if self.path.partition("?")[0] != "/metrics":
            self._send(404, "text/plain; charset=utf-8", b"The figures are at /metrics.\n")
            return
        content_type = wanted_format(self.headers.get("Accept", ""))
        self._send(200, content_type, self.server.endpoint.text(content_type).encode())

    do_HEAD = do_GET

    def _send(self, status: int, content_type: str, content: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Nothing is logged: what a terminal shows is the training."""


def _listening_at(host: str, port: int, endpoint: PrometheusEndpoint) -> Server:
    try:
        return Server(
            (host, port), endpoint, family=socket.AF_INET6 if ":" in host else socket.AF_INET
        )
    except OSError as error:
        raise ConfigError(
            f"prometheus: cannot listen at port {port} of {host}: {error.strerror or error}",
            hint="give another prometheus.port; 0 is any that is free",
        ) from None


def _after_fork() -> None:
    for endpoint in list(_alive):
        endpoint.forked()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
