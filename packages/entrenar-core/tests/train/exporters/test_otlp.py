"""A training as a collector of OpenTelemetry is told of it, read by a decoder of the tests' own."""

import json
import os
import time

import pytest

import entrenar_core
from entrenar_core.train.callbacks import Callback, Notice, Run
from entrenar_core.train.exporters.otlp import OtlpExporter
from entrenar_core.train.exporters.otlp_section import OtlpSection, OtlpSettings
from entrenar_core.train.trace import Recorder
from otlp_collector import Collector, attributes
from small_training import TRAIN, VAL, trainer, weights

pytestmark = pytest.mark.tier2


def exporter(collector, *, run_id="", warn=None, environment=None, **section):
    settings = OtlpSettings.of(
        OtlpSection(endpoint=collector.endpoint, **section),
        run_id=run_id,
        environment=environment or {},
    )
    return OtlpExporter(settings, warn=warn or pytest.fail)


def by_name(spans, name):
    return [span for span in spans if span["name"] == [name]]


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """What a collector has after a training, its log, and when it was by the calendar."""
    folder, before = tmp_path_factory.mktemp("run"), time.time_ns()
    with Collector() as collector:
        callback = exporter(collector, run_id="a run")
        trainer(callback, folder=folder, evaluate_every=2).fit(TRAIN, VAL)
        assert callback.lost == 0
    log = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return collector, log, (before, time.time_ns())


def test_spans_have_the_parents_that_they_have_in_the_training(told):
    spans = told[0].spans()
    names = {span["span_id"][0]: span["name"][0] for span in spans}
    assert len(names) == len(spans)
    nested = {(s["name"][0], names[p[0]] if (p := s.get("parent_span_id")) else "") for s in spans}
    assert nested == {
        ("run", ""), ("epoch", "run"), ("step", "epoch"), ("data", "step"), ("forward", "step"),
        ("backward", "step"), ("optimizer", "step"), ("evaluation", "epoch"),
        ("checkpoint", "epoch"),
    }  # fmt: skip
    assert len(by_name(spans, "step")) == 4


def test_a_training_is_one_trace_with_identifiers_of_16_and_8_bytes(told):
    spans = told[0].spans()
    (trace,) = {span["trace_id"][0] for span in spans}
    assert len(trace) == 16
    assert any(trace)
    assert {len(span["span_id"][0]) for span in spans} == {8}


def test_times_are_those_of_the_calendar_and_inside_those_of_the_parents(told):
    spans = {span["span_id"][0]: span for span in told[0].spans()}
    for span in spans.values():
        if "parent_span_id" in span:
            around = spans[span["parent_span_id"][0]]
            assert around["start"][0] <= span["start"][0]
            assert span["end"][0] <= around["end"][0]
    (run,) = by_name(spans.values(), "run")
    before, after = told[2]
    assert before <= run["start"][0] < run["end"][0] <= after


def test_the_root_says_what_is_trained_and_how(told):
    (run,) = by_name(told[0].spans(), "run")
    said = attributes(run)
    assert said["entrenar.training.phase"] == "training"
    assert said["entrenar.training.outcome"] == "finished"
    assert said["entrenar.training.total_steps"] == 4
    assert said["entrenar.training.parameters"] == 4
    assert said["entrenar.training.settings.learning_rate"] == 0.1


def test_the_resource_says_who_trains(told):
    said = told[0].resource()
    assert said["service.name"] == "entrenar"
    assert said["service.version"] == entrenar_core.__version__
    assert said["process.pid"] == os.getpid()
    assert said["host.name"]
    assert said["entrenar.run.id"] == "a run"


def test_figures_are_those_of_the_log(told):
    collector, log, _ = told
    points = {name: [v for _, v in found] for name, found in collector.points().items()}
    for name, key in [
        ("loss", "loss"), ("learning_rate", "learning_rate"), ("gradient_norm", "grad_norm"),
        ("tokens_per_second", "tokens_per_second"), ("step_duration", "seconds"), ("step", "step"),
    ]:  # fmt: skip
        assert points[f"entrenar.training.{name}"] == [record[key] for record in log]
    held_out = [r["held_out_loss"] for r in log if "held_out_loss" in r]
    assert points["entrenar.training.held_out_loss"] == held_out
    assert len(held_out) == 2
    assert min(points["entrenar.training.resident_memory"]) > 2**20


def test_sums_are_over_the_steps_so_far(told):
    collector, log, _ = told
    points = {name: [v for _, v in found] for name, found in collector.points().items()}
    assert points["entrenar.training.steps"] == [1, 2, 3, 4]
    assert points["entrenar.training.skipped_steps"] == [0, 0, 0, 0]
    sums = [sum(r["tokens"] for r in log[: n + 1]) for n in range(4)]
    assert points["entrenar.training.tokens"] == sums


def test_points_name_the_phase(told):
    found = told[0].points()["entrenar.training.loss"]
    assert {tuple(about.items()) for about, _ in found} == {
        (("entrenar.training.phase", "training"),)
    }


def test_being_told_changes_no_bit():
    silent = trainer()
    silent.fit(TRAIN)
    with Collector() as collector:
        told = trainer(exporter(collector))
        told.fit(TRAIN)
    assert weights(told) == weights(silent)


def test_a_training_that_goes_on_is_another_trace_of_the_same_run(tmp_path):
    with Collector() as collector:
        trainer(exporter(collector, run_id="r"), folder=tmp_path).fit(TRAIN)
        again = trainer(exporter(collector, run_id="r"), folder=tmp_path, max_steps=6)
        again.fit(TRAIN, resume=True)
    assert collector.resource()["entrenar.run.id"] == "r"
    first, second = by_name(collector.spans(), "run")
    assert first["trace_id"] != second["trace_id"]
    assert attributes(second)["entrenar.training.first_step"] == 4
    assert [value for _, value in collector.points()["entrenar.training.step"]] == [
        1,
        2,
        3,
        4,
        5,
        6,
    ]


def test_the_trace_of_a_phase_links_to_the_phase_before():
    with Collector() as collector:
        callback = exporter(collector)
        trainer(callback).fit(TRAIN)
        trainer(callback).fit(TRAIN)
    first, second = by_name(collector.spans(), "run")
    assert "links" not in first
    assert second["links"] == [{"trace_id": first["trace_id"], "span_id": first["span_id"]}]


def test_an_error_is_the_status_of_the_spans_that_it_ended():
    class Broken(Callback):
        def span(self, span):
            if span.name == "forward":
                raise ZeroDivisionError("mine")

    with Collector() as collector, pytest.raises(ZeroDivisionError):
        trainer(exporter(collector), Broken()).fit(TRAIN)
    (step,) = by_name(collector.spans(), "step")
    assert step["status"] == [{"message": ["ZeroDivisionError"], "code": [2]}]
    assert attributes(step)["error.type"] == "ZeroDivisionError"
    (run,) = by_name(collector.spans(), "run")
    assert run["status"][0]["code"] == [2]
    (data,) = by_name(collector.spans(), "data")
    assert "status" not in data


def test_a_notice_is_a_span_where_it_was_noticed():
    class Notices(Callback):
        def started(self, run):
            self.notify = run.notify

        def step(self, record):
            if record["step"] == 2:
                self.notify(Notice("data-stall", 2, "data took 9 s", "serious"))

    with Collector() as collector:
        trainer(exporter(collector), Notices()).fit(TRAIN)
    (notice,) = by_name(collector.spans(), "notice")
    (epoch,) = by_name(collector.spans(), "epoch")
    assert notice["parent_span_id"] == epoch["span_id"]
    assert notice["start"] == notice["end"]
    said = attributes(notice)
    assert said["entrenar.training.notice.message"] == "data took 9 s"
    assert said["entrenar.training.notice.severity"] == "serious"
    assert said["entrenar.training.step"] == 2


def test_a_step_that_was_lost_has_no_loss_and_counts():
    with Collector() as collector:
        callback = exporter(collector, traces=False)
        callback.started(run_of({}))
        callback.step({"step": 1, "loss": float("nan"), "tokens": 8, "skipped": True})
        callback.ended("failed")
    assert "entrenar.training.loss" not in collector.points()
    assert collector.points()["entrenar.training.skipped_steps"][0][1] == 1


def run_of(settings):
    recorder = Recorder()
    return Run("training", 0, 1, 1.0, 4, settings, recorder.zero, lambda notice: None)


def test_secrets_are_not_sent():
    secret = "hunter2hunter2"
    settings = {
        "hub": {"token": secret, "api_keys": [secret]},
        "headers": {"X-Any": secret},
        "tracker": {"Password": secret, "url": f"https://me:{secret}@host/"},
        "query": f"https://host/?access_token={secret}",
        "depth": 3,
    }
    with Collector() as collector:
        callback = exporter(
            collector, environment={"OTEL_RESOURCE_ATTRIBUTES": f"hub.token={secret},team=a%20b"}
        )
        recorder = Recorder([callback.span])
        callback.started(run_of(settings))
        with recorder.span("run", apiKey=secret, plain=True):
            pass
        callback.ended("finished")
    (run,) = by_name(collector.spans(), "run")
    assert attributes(run)["entrenar.training.settings.depth"] == 3
    assert attributes(run)["entrenar.training.plain"] == 1
    assert collector.resource()["team"] == "a b"
    assert all(secret.encode() not in body for _, body in collector.bodies)


def test_only_the_signals_that_are_wanted_are_sent():
    with Collector() as collector:
        trainer(exporter(collector, traces=False)).fit(TRAIN)
        assert {path for path, _ in collector.bodies} == {"/v1/metrics"}
        trainer(exporter(collector, metrics=False)).fit(TRAIN)
    assert {path for path, _ in collector.bodies} == {"/v1/metrics", "/v1/traces"}


def test_a_request_is_a_compressed_message_with_the_headers(told):
    sent = told[0].requests[0].headers
    assert sent["Content-Type"] == "application/x-protobuf"
    assert sent["Content-Encoding"] == "gzip"
