"""MLflow: what its client is told, and what a failure leaves."""

import sys
import time
from dataclasses import dataclass
from types import SimpleNamespace

import pytest

from entrenar_common.errors import UnsupportedError
from entrenar_core.train.callbacks import Run
from entrenar_core.train.exporters.figures import figures
from entrenar_core.train.exporters.mlflow import MLflow

pytestmark = pytest.mark.tier2


@dataclass
class Metric:
    key: str
    value: float
    timestamp: int
    step: int


@dataclass
class Param:
    key: str
    value: str


class Client:
    """As much of MlflowClient as is documented and used, which remembers what it was told."""

    fail = None

    def __call__(self, *, tracking_uri):
        self.tracking_uri, self.metrics, self.params = tracking_uri, [], {}
        self.requests, self.status = [], None
        return self

    def get_experiment_by_name(self, name):
        if self.fail is not None:
            self.fail()

    def create_experiment(self, name):
        self.experiment = name
        return "7"

    def create_run(self, experiment_id, *, run_name):
        assert experiment_id == "7"
        self.name = run_name
        return SimpleNamespace(info=SimpleNamespace(run_id="r"))

    def log_batch(self, run_id, metrics=(), params=()):
        assert run_id == "r"
        assert len(metrics) <= 1000 and len(params) <= 100
        self.metrics += metrics
        self.params |= {param.key: param.value for param in params}
        self.requests.append(len(metrics))

    def set_terminated(self, run_id, *, status):
        self.status = status


@pytest.fixture
def fake(monkeypatch):
    found = Client()
    entities = SimpleNamespace(Metric=Metric, Param=Param)
    monkeypatch.setitem(sys.modules, "mlflow", SimpleNamespace())
    monkeypatch.setitem(sys.modules, "mlflow.tracking", SimpleNamespace(MlflowClient=found))
    monkeypatch.setitem(sys.modules, "mlflow.entities", entities)
    return found


def exporter(uri="http://localhost:5000"):
    warnings = []
    return MLflow(uri, experiment="mine", warn=warnings.append), warnings


def as_metrics(log):
    return [
        (name, record["step"], value)
        for record in log
        for name, value in figures(record).items()
    ]  # fmt: skip


def test_every_figure_of_the_log_is_sent_with_its_step_and_time(fake, training):
    found, warnings = exporter()
    training.run(found)
    sent = [(metric.key, metric.step, metric.value) for metric in fake.metrics]
    assert (sent, warnings) == (as_metrics(training.log), [])
    assert all(abs(metric.timestamp / 1000 - time.time()) < 60 for metric in fake.metrics)
    assert (fake.tracking_uri, fake.experiment, fake.name, fake.status) == (
        "http://localhost:5000", "mine", "training", "FINISHED",
    )  # fmt: skip
    assert (fake.params["learning_rate"], fake.params["first_step"]) == ("0.1", "0")


def test_a_crash_is_a_failure(fake, training):
    training.crash(2, exporter()[0])
    assert fake.status == "FAILED"


def test_requests_have_no_more_metrics_than_a_server_takes(fake):
    found, warnings = exporter()
    settings = {f"option {n}": n for n in range(250)}
    found.started(Run("student", 0, 9, 1.0, 1, settings, 0, lambda _notice: None))
    for step in range(1, 301):
        found.step({"phase": "student", "step": step, **{f"f{n}": 1.0 for n in range(9)}})
    found.ended("interrupted")
    assert (len(fake.metrics), len(fake.params), warnings) == (2700, 251, [])
    assert fake.status == "KILLED"


def test_names_have_only_what_mlflow_takes(fake):
    found, _ = exporter()
    found.started(Run("student", 0, 9, 1.0, 1, {}, 0, lambda _notice: None))
    found.step({"phase": "student", "step": 1, "of": {"a.b-c/d e": 1.0, "naïve{}": 2.0}})
    found.ended("finished")
    assert [metric.key for metric in fake.metrics] == ["of/a.b-c/d e", "of/na_ve__"]


def fails():
    raise ConnectionError("no route")


@pytest.mark.parametrize("trouble", [fails, lambda: time.sleep(8)], ids=["refused", "hangs"])
def test_trouble_changes_no_bit_and_holds_up_nothing_but_the_end(fake, training, trouble):
    without = training.run()
    fake.fail = trouble
    found, warnings = exporter()
    started = time.monotonic()
    assert training.run(found) == without
    assert time.monotonic() - started < 4
    assert len(warnings) == 1
    assert warnings[0].startswith("MLflow: 7 records were lost so far")


def test_without_the_package_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "mlflow", None)
    monkeypatch.delitem(sys.modules, "mlflow.tracking", raising=False)
    with pytest.raises(UnsupportedError, match="needs the package mlflow-skinny") as caught:
        exporter()
    assert caught.value.hint == "pip install mlflow-skinny"
