"""A server of MLflow, a process of its own: what it tells of the spans and runs that came."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

import pytest

from delivered import Delivered
from entrenar_core.train.exporters.figures import figures
from entrenar_core.train.exporters.mlflow import MLflow
from entrenar_core.train.exporters.otlp import OtlpExporter
from entrenar_core.train.exporters.otlp_section import OtlpSection, OtlpSettings
from entrenar_core.train.exporters.spans_file import SpansLog
from small_training import TRAIN, VAL, trainer

pytestmark = [
    pytest.mark.conformance,
    pytest.mark.filterwarnings("ignore"),  # those of MLflow and of what it imports
]

EXPERIMENT = "0"
"""The one that a server has from the start."""
SECONDS = 180
"""A server makes its tables when it starts for the first time."""


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """Its address."""
    pytest.importorskip("mlflow")
    folder = tmp_path_factory.mktemp("mlflow")
    with socket.socket() as chosen:
        chosen.bind(("127.0.0.1", 0))
        port = chosen.getsockname()[1]
    command = [
        sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port),
        "--workers", "1", "--backend-store-uri", f"sqlite:///{folder}/runs.db",
        "--default-artifact-root", str(folder / "artifacts"),
    ]  # fmt: skip
    address, log = f"http://127.0.0.1:{port}", folder / "log"
    with log.open("wb") as said:
        process = subprocess.Popen(command, stdout=said, stderr=said, start_new_session=True)
    try:
        until = time.monotonic() + SECONDS
        while not answers(address):
            assert process.poll() is None and time.monotonic() < until, log.read_text()
            time.sleep(0.2)
        yield address
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(30)


def answers(address):
    try:
        with urllib.request.urlopen(f"{address}/health", timeout=5) as answer:
            return answer.status == 200
    except (urllib.error.URLError, OSError):
        return False


def in_time(ask, wanted):
    """What `ask` gives once it is `wanted`, or after a minute."""
    until = time.monotonic() + 60
    while not wanted(found := ask()) and time.monotonic() < until:
        time.sleep(0.1)
    return found


def test_spans_are_those_of_the_training(server, tmp_path):
    """Sent by OTLP, to the receiver that MLflow has for it."""
    from mlflow import MlflowClient

    section = OtlpSection(
        endpoint=server, headers={"x-mlflow-experiment-id": EXPERIMENT}, metrics=False
    )
    exporter = OtlpExporter(OtlpSettings.of(section, environment={}), warn=pytest.fail, closing=60)
    log = SpansLog(tmp_path / "spans.jsonl")
    trainer(exporter, log, folder=tmp_path / "run", evaluate_every=2).fit(TRAIN, VAL)
    assert exporter.lost == 0
    lines = [json.loads(line) for line in log.path.read_text().splitlines()]
    names = {line["number"]: line["name"] for line in lines}
    wanted = [(line["name"], names.get(line["parent"]), line["started"]) for line in lines]

    client = MlflowClient(tracking_uri=server)
    (trace,) = in_time(lambda: client.search_traces(locations=[EXPERIMENT]), len)
    spans = trace.data.spans
    names = {span.span_id: span.name for span in spans}
    found = [(span.name, names.get(span.parent_id), span.start_time_ns) for span in spans]
    assert sorted(found, key=lambda each: each[2:]) == sorted(wanted, key=lambda each: each[2:])
    (root,) = (span for span in spans if span.parent_id is None)
    assert root.attributes["entrenar.training.total_steps"] == 4
    assert root.attributes["entrenar.training.settings.learning_rate"] == 0.1


def test_figures_are_those_of_the_log(server, training):
    """As a run of MLflow's own, by its client."""
    from mlflow import MlflowClient

    warnings = []
    exporter = MLflow(server, experiment="mine", warn=warnings.append)
    training.run(Delivered(exporter), exporter)
    assert warnings == []
    client = MlflowClient(tracking_uri=server)

    def runs():
        return client.search_runs([client.get_experiment_by_name("mine").experiment_id])

    (run,) = in_time(runs, lambda found: found and found[0].info.status == "FINISHED")
    assert (run.info.run_name, run.info.status) == ("training", "FINISHED")
    assert run.data.params["learning_rate"] == "0.1"
    stored = [
        (name, metric.step, metric.value)
        for name in run.data.metrics
        for metric in client.get_metric_history(run.info.run_id, name)
    ]
    logged = [(n, record["step"], v) for record in training.log for n, v in figures(record).items()]
    assert sorted(stored) == sorted(logged)
