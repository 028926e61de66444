"""Where traces and metrics are sent: a configuration and the variables of OpenTelemetry."""

import pytest

from entrenar_common.errors import ConfigError
from entrenar_core.train.exporters.otlp_section import OtlpSection, OtlpSettings

BASE = {"OTEL_EXPORTER_OTLP_ENDPOINT": "https://collector:4318/base/"}


def settings(environment=None, **section):
    return OtlpSettings.of(OtlpSection(**section), environment=environment or {})


def test_without_a_word_it_is_the_collector_of_this_machine():
    found = settings()
    assert str(found.traces) == "http://localhost:4318/v1/traces"
    assert str(found.metrics) == "http://localhost:4318/v1/metrics"
    assert found.traces.timeout == 10
    assert found.traces.compressed


def test_the_signal_is_added_to_the_address_of_both():
    assert str(settings(BASE).metrics) == "https://collector:4318/base/v1/metrics"


def test_the_address_of_one_signal_is_taken_as_it_is():
    found = settings({**BASE, "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://jaeger:4318"})
    assert str(found.traces) == "http://jaeger:4318/"
    assert found.metrics.host == "collector"


def test_a_configuration_comes_before_variables():
    found = settings(
        {**BASE, "OTEL_EXPORTER_OTLP_TIMEOUT": "3000", "OTEL_SERVICE_NAME": "b"},
        endpoint="http://here",
        timeout=1.5,
        service_name="a",
    )
    assert str(found.traces) == "http://here:80/v1/traces"
    assert found.traces.timeout == 1.5
    assert found.resource["service.name"] == "a"


def test_timeouts_of_variables_are_milliseconds_and_those_of_a_signal_come_first():
    variables = {"OTEL_EXPORTER_OTLP_TIMEOUT": "3000", "OTEL_EXPORTER_OTLP_METRICS_TIMEOUT": "250"}
    found = settings(variables)
    assert (found.traces.timeout, found.metrics.timeout) == (3.0, 0.25)


def test_headers_are_escaped_pairs():
    found = settings(
        {"OTEL_EXPORTER_OTLP_HEADERS": "Authorization=Basic%20abc%3D, x-tenant = one"},
        headers={"x-tenant": "two"},
    )
    assert found.traces.headers == {"Authorization": "Basic abc=", "x-tenant": "two"}


def test_the_name_of_the_service_comes_before_the_attribute():
    attributes = {"OTEL_RESOURCE_ATTRIBUTES": "service.name=a,deployment.environment=test"}
    assert settings(attributes).resource["service.name"] == "a"
    assert settings(attributes).resource["deployment.environment"] == "test"
    named = settings({**attributes, "OTEL_SERVICE_NAME": "b"})
    assert named.resource["service.name"] == "b"


def test_an_empty_variable_is_as_if_it_were_not_set():
    assert str(settings({"OTEL_EXPORTER_OTLP_ENDPOINT": " "}).traces).startswith("http://localhost")


def test_headers_are_not_shown():
    section = OtlpSection(headers={"Authorization": "hunter2"})
    found = OtlpSettings.of(section, environment={})
    assert "hunter2" not in f"{section!r} {found!r} {found.traces}"


@pytest.mark.parametrize(
    "environment",
    [
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "hunter2:4317"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://host:hunter2"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://me:hunter2@host"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://[hunter2/"},
        {"OTEL_EXPORTER_OTLP_HEADERS": "hunter2"},
        {"OTEL_EXPORTER_OTLP_HEADERS": "a=hunter2%0d%0ab: c"},
        {"OTEL_EXPORTER_OTLP_HEADERS": "a=hunter2%C3%A9"},
    ],
    ids=repr,
)
def test_what_is_wrong_is_an_error_that_shows_no_secret(environment):
    with pytest.raises(ConfigError) as raised:
        settings(environment)
    assert "hunter2" not in raised.value.report()
    assert raised.value.hint


@pytest.mark.parametrize(
    ("name", "value"),
    [("PROTOCOL", "grpc"), ("TIMEOUT", "-1"), ("TIMEOUT", "10s"), ("COMPRESSION", "zstd")],
)
def test_a_variable_that_cannot_be_followed_is_an_error_by_its_name(name, value):
    with pytest.raises(ConfigError, match=f"OTEL_EXPORTER_OTLP_TRACES_{name} is '{value}'"):
        settings({f"OTEL_EXPORTER_OTLP_TRACES_{name}": value})


def test_a_signal_that_is_not_sent_has_no_address():
    assert settings({"OTEL_EXPORTER_OTLP_METRICS_PROTOCOL": "grpc"}, metrics=False).metrics is None


def test_an_address_may_be_of_ipv6():
    assert str(settings(endpoint="http://[::1]:4318").traces) == "http://[::1]:4318/v1/traces"
