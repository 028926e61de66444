"""A training whose collector is down, slow or of another mind: it goes on as if there were none."""

import os
import socket
import threading
import time

import pytest

from entrenar_core.train.callbacks import Run
from entrenar_core.train.exporters import protobuf
from entrenar_core.train.exporters.otlp import OtlpExporter
from entrenar_core.train.exporters.otlp_section import OtlpSection, OtlpSettings
from entrenar_core.train.trace import Span
from otlp_collector import Collector, listening
from small_training import TRAIN, trainer, weights

pytestmark = pytest.mark.tier2

RUN = Run("training", 0, 1, 1.0, 4, {}, 0, lambda notice: None)


def exporter(endpoint, warnings, *, signals=("traces", "metrics"), timeout=5.0, **options):
    section = OtlpSection(
        endpoint=endpoint,
        timeout=timeout,
        traces="traces" in signals,
        metrics="metrics" in signals,
    )
    settings = OtlpSettings.of(section, environment={})
    return OtlpExporter(settings, warn=warnings.append, **options)


def a_span(number=2):
    return Span("data", number, 1, 0, 10, 0, {"step": number})


def sleeping(connection):
    time.sleep(8)


def trickling(connection):
    for _ in range(80):
        connection.sendall(b"H")
        time.sleep(0.1)


@pytest.mark.parametrize("serve", [sleeping, trickling])
def test_a_collector_that_does_not_answer_holds_up_only_the_end_and_that_briefly(serve):
    silent, warnings = trainer(), []
    silent.fit(TRAIN)
    with listening(serve) as endpoint:
        callback = exporter(endpoint, warnings, closing=0.5)
        told = trainer(callback)
        started = time.monotonic()
        told.fit(TRAIN)
        assert time.monotonic() - started < 2
    assert weights(told) == weights(silent)
    assert callback.lost == 26  # spans: the run, an epoch, 4 steps of 5 each; and 4 steps' figures
    (warning,) = warnings
    assert "26 records were lost" in warning


def test_the_end_waits_two_seconds_at_most():
    with listening(sleeping) as endpoint:
        callback = exporter(endpoint, [])
        callback.started(RUN)
        callback.span(a_span())
        started = time.monotonic()
        callback.ended("interrupted")
        assert 1.5 < time.monotonic() - started < 2.5


def test_nobody_listens_and_everything_is_counted_as_lost():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    warnings = []
    callback = exporter(f"http://127.0.0.1:{port}", warnings, closing=0.5)
    trainer(callback).fit(TRAIN)
    assert callback.lost == 26
    (warning,) = warnings
    assert "Connection refused" in warning


def test_an_end_between_two_attempts_does_not_wait_for_the_next():
    tried = threading.Event()

    def busy(handler):
        handler.reply(503, Retry_After="20")
        tried.set()

    warnings = []
    with Collector(busy) as collector:
        callback = exporter(collector.endpoint, warnings, interval=0.0)
        callback.started(RUN)
        callback.span(a_span())
        assert tried.wait(5)
        started = time.monotonic()
        callback.ended("interrupted")
        assert time.monotonic() - started < 1
    assert callback.lost == 1
    assert "503" in warnings[0]


def test_a_collector_that_comes_back_gets_what_waited():
    left = [503, 200]
    with Collector(lambda handler: handler.reply(left.pop(0))) as collector:
        callback = exporter(collector.endpoint, [], signals=["traces"])
        callback.started(RUN)
        callback.span(a_span())
        callback.ended("finished")
    assert callback.lost == 0
    assert len(collector.spans()) == 1


def test_what_is_rejected_is_counted_and_said():
    answer = protobuf.message(1, protobuf.integer(1, 3), protobuf.delimited(2, "no such tenant"))
    warnings = []
    with Collector(lambda handler: handler.reply(200, answer)) as collector:
        callback = exporter(collector.endpoint, warnings, signals=["traces"])
        callback.started(RUN)
        for number in range(5):
            callback.span(a_span(number + 2))
        callback.ended("finished")
    assert callback.lost == 3
    (warning,) = warnings
    assert warning.endswith("3 of the traces were rejected: no such tenant)")


def test_a_collector_of_traces_only_loses_no_traces():
    """Jaeger knows no metrics."""
    warnings = []
    with Collector(
        lambda handler: handler.reply(404 if handler.path == "/v1/metrics" else 200)
    ) as collector:
        callback = exporter(collector.endpoint, warnings)
        trainer(callback).fit(TRAIN)
    assert len(collector.spans()) == 22
    assert callback.lost == 4
    assert len(warnings) == 1
    assert "/v1/metrics answered 404" in warnings[0]


def test_many_losses_are_one_warning_over_all_phases():
    warnings = []
    with Collector(lambda handler: handler.reply(400)) as collector:
        callback = exporter(collector.endpoint, warnings, interval=0.0)
        for _ in range(3):
            callback.started(RUN)
            for number in range(20):
                callback.span(a_span(number + 2))
                time.sleep(0.002)
            callback.ended("finished")
    assert callback.lost == 60
    assert len(warnings) == 1


def test_a_flood_of_spans_needs_no_more_room_than_a_full_queue():
    release, warnings = threading.Event(), []

    def hold(handler):
        release.wait(60)
        handler.reply(200)

    with Collector(hold) as collector:
        callback = exporter(
            collector.endpoint, warnings, timeout=60.0, capacity=1000, batch=100, closing=10.0
        )
        callback.started(RUN)
        started = time.monotonic()
        span = a_span()
        for _ in range(100_000):
            callback.span(span)
        assert time.monotonic() - started < 10  # 100 us for each, on a slow machine
        release.set()
        callback.ended("finished")
    arrived = len(collector.spans())
    assert arrived + callback.lost == 100_000
    assert 1000 <= arrived <= 1100  # those that waited, and those on their way
    assert len(warnings) == 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="a system without fork")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_child_sends_nothing_of_its_parent():
    with Collector() as collector:
        callback = exporter(collector.endpoint, [], interval=30.0)
        callback.started(RUN)
        callback.span(a_span())
        child = os.fork()
        if child == 0:
            callback.ended("finished")
            os._exit(callback.lost)
        assert os.waitpid(child, 0)[1] == 0
        assert not collector.bodies
        callback.ended("finished")
    assert len(collector.spans()) == 1


def test_nothing_is_kept_running_after_the_end():
    before = set(threading.enumerate())
    with Collector() as collector:
        trainer(exporter(collector.endpoint, [])).fit(TRAIN)
    assert "otlp" not in [thread.name for thread in set(threading.enumerate()) - before]
