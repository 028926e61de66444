"""Where a training's traces and metrics are sent: the section of a configuration, laid over the
variables that OpenTelemetry has for the same.

Source: "OpenTelemetry Protocol Exporter" and "Resource SDK" of the OpenTelemetry specification.
"""

import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import unquote, urlsplit

from pydantic import Field

import entrenar_core
from entrenar_common.errors import ConfigError
from entrenar_core.train.exporters.attributes import sendable
from entrenar_core.train.strict import StrictModel
from entrenar_core.train.trace import Attribute

__all__ = ["Address", "OtlpSection", "OtlpSettings"]

Signal = Literal["traces", "metrics"]

_DEFAULT_ENDPOINT = "http://localhost:4318"
_DEFAULT_TIMEOUT = 10.0  # seconds


class OtlpSection(StrictModel):
    """Spans and figures of a training for a collector of OpenTelemetry, over HTTP."""

    endpoint: str | None = Field(
        None,
        description="address of the collector, to which /v1/traces and /v1/metrics are added; "
        "OTEL_EXPORTER_OTLP_ENDPOINT, or else http://localhost:4318, when absent",
    )
    headers: dict[str, str] = Field(
        default_factory=dict,
        repr=False,
        description="sent with every request, besides those of OTEL_EXPORTER_OTLP_HEADERS, which "
        "is the better place for a token",
    )
    timeout: float | None = Field(
        None,
        gt=0,
        description="seconds that an attempt to send may take; OTEL_EXPORTER_OTLP_TIMEOUT, or else "
        "10, when absent",
    )
    service_name: str | None = Field(
        None,
        min_length=1,
        description="what the run is listed under; OTEL_SERVICE_NAME, or else entrenar, when "
        "absent",
    )
    traces: bool = Field(True, description="send spans, to /v1/traces")
    metrics: bool = Field(True, description="send figures, to /v1/metrics")


@dataclass(frozen=True)
class Address:
    """Where one signal is sent, and how.

    timeout:     seconds for one attempt
    compressed:  whether bodies are compressed with gzip
    certificate: file with the certificates to trust; empty for the system's
    """

    secure: bool
    host: str
    port: int
    path: str
    timeout: float
    headers: Mapping[str, str] = field(repr=False)
    compressed: bool = True
    certificate: str = ""

    def __str__(self) -> str:
        """Without what follows the path, which may hold a password."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        path = self.path.partition("?")[0]
        return f"{'https' if self.secure else 'http'}://{host}:{self.port}{path}"


@dataclass(frozen=True)
class OtlpSettings:
    """What an exporter works with; a signal that is not sent has no address."""

    traces: Address | None
    metrics: Address | None
    resource: Mapping[str, Attribute]

    @staticmethod
    def of(
        section: OtlpSection, *, run_id: str = "", environment: Mapping[str, str] | None = None
    ) -> "OtlpSettings":
        """Lay `section` over the variables. Raises ConfigError, which shows no header."""
        variables = Variables(os.environ if environment is None else environment)
        return OtlpSettings(
            _address("traces", section, variables) if section.traces else None,
            _address("metrics", section, variables) if section.metrics else None,
            _resource(section, run_id, variables),
        )


class Variables:
    """The environment's OTEL_EXPORTER_OTLP_*; those of one signal come before those of all."""

    def __init__(self, environment: Mapping[str, str]):
        self._all = environment

    def get(self, name: str) -> str:
        """Of an empty variable the specification says that it is as if it were not set."""
        return self._all.get(name, "").strip()

    def find(self, signal: Signal, name: str) -> tuple[str, str]:
        """The variable that says something, and what; both empty when none does."""
        for variable in (
            f"OTEL_EXPORTER_OTLP_{signal.upper()}_{name}",
            f"OTEL_EXPORTER_OTLP_{name}",
        ):
            if value := self.get(variable):
                return variable, value
        return "", ""

    def pairs(self, variable: str) -> dict[str, str]:
        """`name=value,name=value`, with %-escapes in the values."""
        found = {}
        for number, pair in enumerate(filter(None, self.get(variable).split(",")), 1):
            name, equals, value = pair.partition("=")
            if not equals or not name.strip():
                raise ConfigError(
                    f"{variable}: entry {number} is no name=value",
                    hint="write name=value,name=value with commas in values as %2C",
                )
            found[unquote(name.strip())] = unquote(value.strip())
        return found


def _address(signal: Signal, section: OtlpSection, variables: Variables) -> Address:
    variable, protocol = variables.find(signal, "PROTOCOL")
    if protocol not in ("", "http/protobuf"):
        raise ConfigError(
            f"{variable} is {protocol!r}, and only http/protobuf is spoken here",
            hint="unset it, and give the collector's address for HTTP, mostly of port 4318",
        )
    where, endpoint = _endpoint(signal, section, variables)
    try:
        parts = urlsplit(endpoint)
        port = parts.port
    except ValueError:
        parts, port = urlsplit(""), None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError(
            f"{where} is not an address such as {_DEFAULT_ENDPOINT}",
            hint="give http:// or https://, a host and a port",
        )
    if "@" in parts.netloc:
        raise ConfigError(
            f"{where} has a name or a password in it",
            hint="give it as a header, in OTEL_EXPORTER_OTLP_HEADERS",
        )
    return Address(
        secure=parts.scheme == "https",
        host=parts.hostname,
        port=port or (443 if parts.scheme == "https" else 80),
        path=(parts.path or "/") + (f"?{parts.query}" if parts.query else ""),
        timeout=_timeout(signal, section, variables),
        headers=_headers(signal, section, variables),
        compressed=_compressed(signal, variables),
        certificate=variables.find(signal, "CERTIFICATE")[1],
    )


def _endpoint(signal: Signal, section: OtlpSection, variables: Variables) -> tuple[str, str]:
    """Who says where to send, and the address: a signal's own is taken as it is."""
    own = f"OTEL_EXPORTER_OTLP_{signal.upper()}_ENDPOINT"
    if section.endpoint is None and (endpoint := variables.get(own)):
        return own, endpoint
    where, base = "otlp.endpoint", section.endpoint
    if base is None:
        where = "OTEL_EXPORTER_OTLP_ENDPOINT"
        base = variables.get(where) or _DEFAULT_ENDPOINT
    return where, f"{base.rstrip('/')}/v1/{signal}"


def _timeout(signal: Signal, section: OtlpSection, variables: Variables) -> float:
    if section.timeout is not None:
        return section.timeout
    variable, value = variables.find(signal, "TIMEOUT")
    if not value:
        return _DEFAULT_TIMEOUT
    if not (value.isascii() and value.isdigit() and int(value) > 0):
        raise ConfigError(
            f"{variable} is {value!r}, not a number of milliseconds",
            hint="give a whole number above 0, such as 10000",
        )
    return int(value) / 1000


def _headers(signal: Signal, section: OtlpSection, variables: Variables) -> dict[str, str]:
    variable, _ = variables.find(signal, "HEADERS")
    found = {**(variables.pairs(variable) if variable else {}), **section.headers}
    for name, value in found.items():
        allowed = name.isascii() and name.replace("-", "").replace("_", "").isalnum()
        if not allowed or not value.isprintable() or not value.isascii():
            raise ConfigError(
                f"the header {name!r} for {signal} is not one of HTTP",
                hint="names are letters, digits, - and _; values are ASCII in one line",
            )
    return found


def _compressed(signal: Signal, variables: Variables) -> bool:
    variable, value = variables.find(signal, "COMPRESSION")
    if value not in ("", "gzip", "none"):
        raise ConfigError(f"{variable} is {value!r}", hint="give gzip or none")
    return value != "none"


def _resource(section: OtlpSection, run_id: str, variables: Variables) -> dict[str, Attribute]:
    """Who trains: what is given comes before what is found out."""
    given = variables.pairs("OTEL_RESOURCE_ATTRIBUTES")
    name = section.service_name or variables.get("OTEL_SERVICE_NAME")
    found: dict[str, Attribute] = {
        "service.name": "entrenar",
        "service.version": entrenar_core.__version__,
        "host.name": socket.gethostname(),
        "process.pid": os.getpid(),
    }
    if run_id:
        found["entrenar.run.id"] = run_id
    return sendable({**found, **given, **({"service.name": name} if name else {})})
