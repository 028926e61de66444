"""What is sent, as the classes say that are generated from OpenTelemetry's own definitions."""

import json
import math

import pytest

from entrenar_core.train.exporters.otlp import OtlpExporter
from entrenar_core.train.exporters.otlp_section import OtlpSection, OtlpSettings
from otlp_collector import Collector
from small_training import TRAIN, VAL, trainer

pytestmark = pytest.mark.parity


def value(any_value):
    return getattr(any_value, any_value.WhichOneof("value"))


def attributes(message):
    return {each.key: value(each.value) for each in message.attributes}


def whole(kind, content):
    """The message, of which nothing is unknown or missing: written again it is as long."""
    message = kind.FromString(content)
    assert message.ByteSize() == len(content)
    message.DiscardUnknownFields()
    assert message.ByteSize() == len(content)
    return message


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """A collector, its log, after a training in two phases."""
    folder = tmp_path_factory.mktemp("run")
    with Collector() as collector:
        section = OtlpSection(endpoint=collector.endpoint, service_name="tests")
        settings = OtlpSettings.of(section, run_id="a run", environment={})
        callback = OtlpExporter(settings, warn=pytest.fail)
        trainer(callback).fit(TRAIN)
        trainer(callback, folder=folder, evaluate_every=2).fit(TRAIN, VAL)
    log = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return collector, log


def test_traces_are_what_is_defined(told):
    service = pytest.importorskip("opentelemetry.proto.collector.trace.v1.trace_service_pb2")
    trace = pytest.importorskip("opentelemetry.proto.trace.v1.trace_pb2")
    first, second = (
        whole(service.ExportTraceServiceRequest, body).resource_spans[0]
        for body in told[0].messages("traces")
    )
    assert attributes(second.resource)["service.name"] == "tests"
    assert second.scope_spans[0].scope.name == "entrenar"
    spans = list(second.scope_spans[0].spans)
    names = {span.span_id: span.name for span in spans}
    assert {(s.name, names.get(s.parent_span_id, "")) for s in spans} == {
        ("run", ""), ("epoch", "run"), ("step", "epoch"), ("data", "step"), ("forward", "step"),
        ("backward", "step"), ("optimizer", "step"), ("evaluation", "epoch"),
        ("checkpoint", "epoch"),
    }  # fmt: skip
    root, before = (s.scope_spans[0].spans[-1] for s in (second, first))
    assert root.kind == trace.Span.SPAN_KIND_INTERNAL
    assert root.end_time_unix_nano >= max(span.end_time_unix_nano for span in spans)
    assert root.links[0].trace_id == before.trace_id
    assert root.links[0].span_id == before.span_id
    assert root.status.code == trace.Status.STATUS_CODE_UNSET
    assert attributes(root)["entrenar.training.settings.learning_rate"] == 0.1
    assert attributes(root)["entrenar.training.total_steps"] == 4


def test_metrics_are_what_is_defined(told):
    service = pytest.importorskip("opentelemetry.proto.collector.metrics.v1.metrics_service_pb2")
    kinds = pytest.importorskip("opentelemetry.proto.metrics.v1.metrics_pb2")
    collector, log = told
    (found,) = whole(
        service.ExportMetricsServiceRequest, collector.messages("metrics")[-1]
    ).resource_metrics
    assert attributes(found.resource)["entrenar.run.id"] == "a run"
    metrics = {metric.name: metric for metric in found.scope_metrics[0].metrics}
    loss = metrics["entrenar.training.loss"].gauge.data_points
    assert [point.as_double for point in loss] == [record["loss"] for record in log]
    assert attributes(loss[0]) == {"entrenar.training.phase": "training"}
    tokens = metrics["entrenar.training.tokens"].sum
    assert tokens.is_monotonic
    assert tokens.aggregation_temporality == kinds.AGGREGATION_TEMPORALITY_CUMULATIVE
    assert tokens.data_points[-1].as_int == sum(record["tokens"] for record in log)
    assert all(p.start_time_unix_nano <= p.time_unix_nano for p in tokens.data_points)
    assert metrics["entrenar.training.resident_memory"].unit == "By"
    assert all(metric.description and metric.unit for metric in metrics.values())
    assert all(math.isfinite(p.as_double) for m in metrics.values() for p in m.gauge.data_points)
