"""What OTLP's traces and metrics have in common: attributes, the resource, the scope.

Source: common.proto and resource.proto of github.com/open-telemetry/opentelemetry-proto, 1.x.
"""

from collections.abc import Mapping

import entrenar_core
from entrenar_core.train.exporters import protobuf
from entrenar_core.train.exporters.protobuf import delimited
from entrenar_core.train.trace import Attribute

__all__ = ["attributes", "resource", "scope"]


def attributes(number: int, values: Mapping[str, Attribute]) -> bytes:
    """A repeated field of the kind KeyValue."""
    return b"".join(
        protobuf.message(number, delimited(1, name), protobuf.message(2, _value(value)))
        for name, value in values.items()
    )


def resource(values: Mapping[str, Attribute]) -> bytes:
    """The field `resource` of what is sent: who says it."""
    return protobuf.message(1, attributes(1, values))


def scope() -> bytes:
    """The field `scope`: the library that measured."""
    name, version = (
        delimited(1, "entrenar"),
        delimited(2, entrenar_core.__version__),
    )
    return protobuf.message(1, name, version)


def _value(value: Attribute) -> bytes:
    """The field of an AnyValue; whole numbers that 64 bits do not hold are texts."""
    if isinstance(value, bool):
        return protobuf.integer(2, value)
    if isinstance(value, int) and -(2**63) <= value < 2**63:
        return protobuf.integer(3, value)
    return protobuf.double(4, value) if isinstance(value, float) else delimited(1, str(value))
