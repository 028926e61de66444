"""Messages to a collector: HTTP requests that end in time, and are tried again where that helps.

Source: "OTLP/HTTP" of the OpenTelemetry Protocol specification, 1.x.
"""

import gzip
import random
import ssl
import time
from collections.abc import Callable
from email.utils import mktime_tz, parsedate_tz
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from typing import Any, cast

import entrenar_core
from entrenar_common.errors import ConfigError
from entrenar_common.text import escape_controls
from entrenar_core.train.exporters import protobuf
from entrenar_core.train.exporters.otlp_section import Address
from entrenar_core.train.exporters.received import Received, seconds_left

__all__ = ["Client", "NotSent"]

_AGAIN = frozenset({429, 502, 503, 504})
_MOST = 1 << 16  # bytes of an answer that are read
_jitter = random.SystemRandom()  # of its own: a program's random numbers stay what they were


class NotSent(Exception):
    """A message that did not arrive, and that there is no use in sending again."""


class Busy(Exception):
    """A message that did not arrive; `seconds` is what the collector asks to wait, if it does."""

    def __init__(self, message: str, *, seconds: float | None = None):
        super().__init__(message)
        self.seconds = seconds


class Client:
    """Posts messages to `address`.

    `wait(seconds)` waits between two attempts and says whether to give up after the next one.
    Attempts begin within `patience` seconds, the second `backoff` seconds after the first and each
    later one after twice as long, unless the collector asks for another time. Raises ConfigError
    when the file of certificates to trust cannot be used.
    """

    def __init__(
        self,
        address: Address,
        *,
        wait: Callable[[float], bool],
        patience: float = 30.0,
        backoff: float = 1.0,
    ):
        self.address = address
        self._wait, self._patience, self._backoff = wait, patience, backoff
        self._context = _trusting(address) if address.secure else None

    def post(self, message: bytes) -> tuple[int, str]:
        """Send `message`; returns how many of its parts were rejected, and why.

        Raises NotSent when it did not arrive.
        """
        body = gzip.compress(message, 1) if self.address.compressed else message
        until, delay, last = time.monotonic() + self._patience, self._backoff, False
        while True:
            try:
                return _rejected(self._attempt(body))
            except Busy as error:
                seconds = (
                    delay * _jitter.uniform(0.5, 1) if error.seconds is None else error.seconds
                )
                if last or time.monotonic() + seconds > until:
                    raise NotSent(str(error)) from None
            last = self._wait(seconds)
            delay *= 2

    def _attempt(self, body: bytes) -> bytes:
        """One request; returns the message that answers it."""
        until = time.monotonic() + self.address.timeout
        connection: HTTPConnection | None = None
        try:
            connection = self._connection()
            connection.connect()
            return self._exchange(connection, body, until)
        except ssl.SSLCertVerificationError as error:
            raise NotSent(f"{self.address}: {error.verify_message}") from None
        except OSError as error:
            raise Busy(f"{self.address}: {error.strerror or error}") from None
        except (HTTPException, ValueError) as error:
            raise NotSent(f"{self.address} answered no HTTP ({type(error).__name__})") from None
        finally:
            if connection is not None:
                connection.close()

    def _connection(self) -> HTTPConnection:
        address = self.address
        if self._context is None:
            return HTTPConnection(address.host, address.port, timeout=address.timeout)
        return HTTPSConnection(
            address.host, address.port, timeout=address.timeout, context=self._context
        )

    def _exchange(self, connection: HTTPConnection, body: bytes, until: float) -> bytes:
        connection.sock.settimeout(seconds_left(until))
        connection.request("POST", self.address.path, body, headers=self._headers())
        # not getresponse: its time-out begins anew with every byte that comes
        answer = HTTPResponse(cast(Any, Received(connection.sock, until)), method="POST")
        answer.begin()
        content = answer.read(_MOST)
        if answer.status == 200:
            return content
        problem = f"{self.address} answered {answer.status}{_said(content)}"
        if answer.status in _AGAIN:
            raise Busy(problem, seconds=_seconds(answer.getheader("Retry-After", "")))
        raise NotSent(problem)

    def _headers(self) -> dict[str, str]:
        found = {
            "User-Agent": f"entrenar/{entrenar_core.__version__}",
            "Content-Type": "application/x-protobuf",
            "Connection": "close",
        }
        if self.address.compressed:
            found["Content-Encoding"] = "gzip"
        return {**found, **self.address.headers}


def _trusting(address: Address) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=address.certificate or None)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(
            f"{address.certificate}: no certificates to trust ({error.strerror or error})",
            hint="name a PEM file in OTEL_EXPORTER_OTLP_CERTIFICATE, or unset it",
        ) from None


def _seconds(header: str) -> float | None:
    """How long `Retry-After` asks to wait: a number of seconds, or a date."""
    if header.strip().isdecimal():
        return float(header)
    date = parsedate_tz(header)
    return None if date is None else max(0.0, mktime_tz(date) - time.time())


def _rejected(answer: bytes) -> tuple[int, str]:
    """What the `partial_success` of an answer says; an answer that is none says nothing."""
    count, why = 0, ""
    for number, value in _fields(answer):
        if number == 1 and isinstance(value, bytes):
            for inner, said in _fields(value):
                count = said if inner == 1 and isinstance(said, int) else count
                why = _text(said) if inner == 2 and isinstance(said, bytes) else why
    return count, why


def _said(content: bytes) -> str:
    """The message of an answer that is google.rpc.Status."""
    texts = [value for number, value in _fields(content) if number == 2]
    return f": {_text(texts[0])}" if texts and isinstance(texts[0], bytes) else ""


def _fields(content: bytes) -> list[tuple[int, int | bytes]]:
    try:
        return list(protobuf.fields(content))
    except ValueError:
        return []


def _text(value: bytes) -> str:
    return escape_controls(value.decode("utf-8", "replace")[:200])
