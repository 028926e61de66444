"""Figures of a training at an address, while it goes on."""

import http.client
import os
import socket
import time
import urllib.error
import urllib.request

import pytest

from entrenar_common.errors import ConfigError
from entrenar_core.train.callbacks import Callback, Run
from entrenar_core.train.exporters import prometheus
from entrenar_core.train.exporters.prometheus import PrometheusEndpoint
from entrenar_core.train.exporters.prometheus_section import PrometheusSection
from entrenar_core.train.exporters.prometheus_text import OPEN_METRICS, TEXT, wanted_format
from small_training import TRAIN, VAL, trainer, weights

ANY = PrometheusSection(port=0)
RECORD = {
    "step": 3, "loss": 1.5, "learning_rate": 0.1, "grad_norm": float("nan"), "tokens": 8,
    "tokens_per_second": 4.0, "seconds": 2.0, "skipped": True,
}  # fmt: skip


def run_of(phase="student"):
    return Run(phase, 0, 1, 1.0, 4, {}, 0, lambda notice: None)


@pytest.fixture
def endpoint():
    found = PrometheusEndpoint(ANY, run_id='a "run"\\\n')
    found.started(run_of())
    yield found
    found.ended("finished")


def asked(url, *, accept="", method="GET"):
    headers = {"Accept": accept} if accept else {}
    request = urllib.request.Request(url, headers=headers, method=method)
    with urllib.request.urlopen(request, timeout=5) as answer:
        return answer.headers, answer.read().decode()


def samples(text):
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    return dict(line.rsplit(" ", 1) for line in lines)


def test_figures_of_the_last_step_are_there(endpoint):
    endpoint.step(RECORD)
    headers, text = asked(endpoint.address)
    assert headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    found = samples(text)
    assert found['entrenar_training_loss{phase="student"}'] == "1.5"
    assert found['entrenar_training_gradient_norm{phase="student"}'] == "NaN"
    assert found['entrenar_training_step_duration_seconds{phase="student"}'] == "2.0"
    assert found['entrenar_training_tokens_total{phase="student"}'] == "8"
    assert found['entrenar_training_skipped_steps_total{phase="student"}'] == "1"
    assert int(found["entrenar_training_resident_memory_bytes"]) > 2**20
    assert "entrenar_training_held_out_loss" not in text


def test_before_the_first_step_there_are_sums_of_nothing(endpoint):
    found = samples(asked(endpoint.address)[1])
    assert found['entrenar_training_steps_total{phase="student"}'] == "0"


def test_every_metric_is_explained_and_has_a_type(endpoint):
    endpoint.step(RECORD)
    text = asked(endpoint.address)[1]
    for sample in samples(text):
        name = sample.partition("{")[0]
        assert f"# HELP {name} " in text
        assert f"# TYPE {name} {'counter' if name.endswith('_total') else 'gauge'}\n" in text


def test_labels_are_escaped(endpoint):
    assert 'run_id="a \\"run\\"\\\\\\n"' in asked(endpoint.address)[1]


def test_open_metrics_are_answered_to_those_that_ask(endpoint):
    endpoint.step(RECORD)
    headers, text = asked(endpoint.address, accept="application/openmetrics-text; version=1.0.0")
    assert headers["Content-Type"] == OPEN_METRICS
    assert text.endswith("\n# EOF\n")
    assert "# TYPE entrenar_training_tokens counter\n" in text
    assert "# UNIT entrenar_training_step_duration_seconds seconds\n" in text


@pytest.mark.parametrize(
    ("accept", "wanted"),
    [
        ("", TEXT),
        ("*/*", TEXT),
        ("text/plain;version=0.0.4;q=0.5,*/*;q=0.1", TEXT),
        ("application/openmetrics-text;version=1.0.0;q=0.5,text/plain;q=0.4", OPEN_METRICS),
        ("application/openmetrics-text;q=0.2,text/plain;q=0.4", TEXT),
        ("application/openmetrics-text;q=0", TEXT),
        ("application/openmetrics-text;q=x", TEXT),
    ],
)
def test_the_format_is_the_one_that_is_preferred(accept, wanted):
    assert wanted_format(accept) == wanted


def test_other_paths_are_not_there(endpoint):
    with pytest.raises(urllib.error.HTTPError, match="404") as raised:
        asked(endpoint.address.replace("metrics", "other"))
    raised.value.close()


def test_a_question_for_the_head_gets_no_body(endpoint):
    headers, text = asked(endpoint.address, method="HEAD")
    assert int(headers["Content-Length"]) > 0
    assert text == ""


def test_a_phase_that_is_over_leaves_its_sums():
    found = PrometheusEndpoint(ANY)
    found.started(run_of("teacher"))
    found.step(RECORD)
    before = found.address
    found.ended("finished")
    found.started(run_of("student"))
    text = asked(found.address)[1]
    assert found.address == before
    found.ended("finished")
    assert samples(text)['entrenar_training_tokens_total{phase="teacher"}'] == "8"
    assert 'loss{phase="teacher"}' not in text


def test_a_port_that_is_taken_is_an_error_before_the_first_step():
    told = []

    class Told(Callback):
        def step(self, record):
            told.append(record)

    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        callback = PrometheusEndpoint(PrometheusSection(port=port))
        with pytest.raises(ConfigError, match=f"port {port} of 127.0.0.1: .*in use") as raised:
            trainer(Told(), callback).fit(TRAIN)
    assert raised.value.hint
    assert not told


def test_a_host_that_is_not_of_this_machine_is_an_error():
    with pytest.raises(ConfigError, match=r"cannot listen at port 0 of 192\.0\.2\.1"):
        PrometheusEndpoint(PrometheusSection(port=0, host="192.0.2.1")).started(run_of())


def test_only_this_machine_can_ask_unless_told_otherwise(endpoint):
    assert endpoint.address.startswith("http://127.0.0.1:")


def test_nobody_answers_after_the_end(endpoint):
    address = endpoint.address
    endpoint.ended("finished")
    assert endpoint.address == ""
    with pytest.raises(urllib.error.URLError):
        asked(address)


def test_a_client_that_says_nothing_keeps_nobody_from_asking(endpoint):
    host = endpoint.address.split("/")[2].split(":")
    with socket.create_connection((host[0], int(host[1]))):
        assert asked(endpoint.address)[1]


def test_a_client_that_trickles_is_hung_up_on(endpoint, monkeypatch):
    monkeypatch.setattr(prometheus, "_PATIENCE", 0.2)
    host, port = endpoint.address.split("/")[2].split(":")
    with socket.create_connection((host, int(port)), timeout=5) as client:
        started = time.monotonic()
        with pytest.raises(OSError):
            while time.monotonic() - started < 5:
                client.sendall(b"G")
                time.sleep(0.05)
    assert time.monotonic() - started < 3


def test_no_more_than_so_many_are_listened_to(endpoint):
    host, port = endpoint.address.split("/")[2].split(":")
    held = [socket.create_connection((host, int(port)), timeout=5) for _ in range(8)]
    try:
        with pytest.raises((OSError, http.client.HTTPException)):
            asked(endpoint.address)
    finally:
        for each in held:
            each.close()


def test_an_end_does_not_wait_for_a_client(endpoint):
    host, port = endpoint.address.split("/")[2].split(":")
    with socket.create_connection((host, int(port))):
        started = time.monotonic()
        endpoint.ended("finished")
        assert time.monotonic() - started < 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="a system without fork")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_child_does_not_keep_the_port(endpoint):
    port = int(endpoint.address.split("/")[2].split(":")[1])
    (ready, readying), (waiting, ending) = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        os.close(ending)
        endpoint.ended("finished")
        os.write(readying, b".")
        os.read(waiting, 1)
        os._exit(0)
    os.read(ready, 1)  # before, the child may not have got round to closing what it has
    endpoint.ended("finished")
    try:
        again = PrometheusEndpoint(PrometheusSection(port=port))
        again.started(run_of())
        again.ended("finished")
    finally:
        os.close(ending)
        assert os.waitpid(child, 0)[1] == 0
        for each in (ready, readying, waiting):
            os.close(each)


@pytest.mark.tier2
def test_a_training_that_is_asked_has_the_same_bits_and_tells_its_log():
    silent, texts = trainer(evaluate_every=2), []
    silent.fit(TRAIN, VAL)
    found = PrometheusEndpoint(ANY)

    class Asking(Callback):
        def step(self, record):
            texts.append((record, samples(asked(found.address)[1])))

    told = trainer(found, Asking(), evaluate_every=2)
    told.fit(TRAIN, VAL)
    assert weights(told) == weights(silent)
    assert len(texts) == 4
    for record, text in texts:
        assert float(text['entrenar_training_loss{phase="training"}']) == record["loss"]
    last, text = texts[-1]
    held_out = float(text['entrenar_training_held_out_loss{phase="training"}'])
    assert held_out == last["held_out_loss"]
