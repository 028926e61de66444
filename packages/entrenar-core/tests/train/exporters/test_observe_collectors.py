"""The sections `otlp` and `prometheus` of a configuration as callbacks."""

import pytest

from entrenar_common.errors import ConfigError
from entrenar_core.train.exporters.otlp_section import OtlpSection
from entrenar_core.train.exporters.prometheus import PrometheusEndpoint
from entrenar_core.train.exporters.prometheus_section import PrometheusSection
from entrenar_core.train.observe import ObserveSection, callbacks_of
from otlp_collector import Collector, attributes
from small_training import TRAIN, trainer


@pytest.mark.tier2
def test_runs_in_one_folder_have_one_identity_that_does_not_name_it(tmp_path):
    secret = tmp_path / "secret-folder"
    with Collector() as collector:
        section = ObserveSection(otlp=OtlpSection(endpoint=collector.endpoint, metrics=False))
        for folder in (secret, secret, tmp_path / "other"):
            trainer(*callbacks_of(section, folder, warn=pytest.fail)).fit(TRAIN)
    runs = [s for s in collector.spans() if s["name"] == ["run"]]
    assert len({run["trace_id"][0] for run in runs}) == 3
    first, again, other = collector.resources()
    assert attributes(first)["entrenar.run.id"] == attributes(again)["entrenar.run.id"]
    assert attributes(first)["entrenar.run.id"] != attributes(other)["entrenar.run.id"]
    assert all(b"secret-folder" not in body for _, body in collector.bodies)


def test_a_section_without_keys_is_an_endpoint(tmp_path):
    section = ObserveSection.model_validate({"prometheus": {}})
    (callback,) = callbacks_of(section, tmp_path, warn=pytest.fail)
    assert isinstance(callback, PrometheusEndpoint)
    assert section.prometheus == PrometheusSection(port=9464, host="127.0.0.1")


def test_what_cannot_be_sent_to_is_known_before_anything_is_done(tmp_path, monkeypatch):
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
    with pytest.raises(ConfigError, match="OTEL_EXPORTER_OTLP_PROTOCOL is 'grpc'"):
        callbacks_of(ObserveSection(otlp=OtlpSection()), tmp_path, warn=pytest.fail)
