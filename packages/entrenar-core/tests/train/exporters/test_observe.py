"""The section `observe`: what it makes, what it refuses, and that it changes no weight."""

import sys
from types import SimpleNamespace

import pytest
from pydantic import ValidationError

from entrenar_common.errors import StorageError, UnsupportedError
from entrenar_core.train.observe import ObserveSection, callbacks_of
from otlp_collector import Collector

pytestmark = pytest.mark.tier2


def made(folder, **section):
    return callbacks_of(ObserveSection.model_validate(section), folder, warn=print)


class Silent:
    """A client of W&B or of MLflow that takes everything."""

    def __getattr__(self, _name):
        return self

    def __call__(self, *_args, **_settings):
        return self


def test_nothing_is_observed_unless_it_is_asked_for(tmp_path):
    assert made(tmp_path) == []
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def collector():
    with Collector() as found:
        yield found


def test_all_of_them_together_change_no_bit(training, tmp_path, monkeypatch, collector):
    for name in ("wandb", "mlflow.tracking", "mlflow.entities"):
        monkeypatch.setitem(sys.modules, name, Silent())
    monkeypatch.setitem(sys.modules, "mlflow", SimpleNamespace())
    everything = {
        "csv": True, "tensorboard": str(tmp_path / "events"), "spans": True, "wandb": {},
        "mlflow": {"tracking_uri": "http://localhost:1"}, "prometheus": {"port": 0},
        "otlp": {"endpoint": collector.endpoint},
    }  # fmt: skip
    assert everything.keys() == ObserveSection.model_fields.keys()
    without = training.run()
    callbacks = made(training.folder, **everything)
    assert len(callbacks) == 7
    assert training.run(*callbacks) == without
    found = {path.name for path in training.folder.iterdir() if path.is_file()}
    assert found == {"metrics.jsonl", "metrics.csv", "spans.jsonl"}
    assert len(list((tmp_path / "events" / "training").iterdir())) == 1
    assert collector.spans()


def test_a_table_can_have_a_path_of_its_own(training, tmp_path):
    path = tmp_path / "new" / "table.csv"
    training.run(*made(training.folder, csv=str(path)))
    assert len(path.read_text().splitlines()) == 7


@pytest.mark.parametrize("section", [{"csv": "file/x/a.csv"}, {"tensorboard": "file"}])
def test_a_path_that_cannot_be_written_is_refused_at_once(tmp_path, monkeypatch, section):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="file: is not a folder"):
        made(tmp_path, **section)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_package_that_is_missing_is_said_at_once(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(UnsupportedError, match="wandb, which is not installed"):
        made(tmp_path, wandb={})


@pytest.mark.parametrize(
    "section",
    [{"csv": ""}, {"csv": 1}, {"tensorboard": True}, {"mlflow": {}}, {"wandb": {"key": "x"}}],
)
def test_a_section_that_makes_no_sense_is_refused(section):
    with pytest.raises(ValidationError):
        ObserveSection.model_validate(section)
