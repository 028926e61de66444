"""The section `observe`: where the figures of a training are shown, and what shows them there."""

import hashlib
import socket
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from pydantic import Field

from entrenar_common.errors import StorageError
from entrenar_core.io import files
from entrenar_core.train.anomalies.section import AnomaliesSection
from entrenar_core.train.callbacks import Callback
from entrenar_core.train.exporters.otlp_section import OtlpSection, OtlpSettings
from entrenar_core.train.exporters.prometheus_section import PrometheusSection
from entrenar_core.train.sampling_profiler import ProfileSection
from entrenar_core.train.strict import FilePath, StrictModel

__all__ = ["MLflowSection", "ObserveSection", "WandBSection", "callbacks_of"]

Warn = Callable[[str], None]


class WandBSection(StrictModel):
    """Figures to Weights & Biases, for which the package `wandb` has to be installed."""

    project: str = Field("entrenar", min_length=1, description="project of the runs")
    name: str | None = Field(
        None, min_length=1, description="group of the runs; their names are it and the phase"
    )
    offline: bool = Field(False, description="leave all in the output folder, for `wandb sync`")


class MLflowSection(StrictModel):
    """Figures to MLflow, for which the package `mlflow-skinny` or `mlflow` has to be installed."""

    tracking_uri: str = Field(
        min_length=1, description="the server, such as http://localhost:5000, or a store"
    )
    experiment: str = Field("entrenar", min_length=1, description="experiment of the runs")


class ObserveSection(StrictModel):
    """Where the figures of a training go beside metrics.jsonl. None of this changes a weight."""

    csv: bool | FilePath = Field(
        False,
        description="also write metrics.csv, a row for each step, in the output folder; or the "
        "path of such a file, of this run alone",
    )
    tensorboard: FilePath | None = Field(
        None, description="folder of event files for TensorBoard, of this run alone"
    )
    spans: bool = Field(
        False, description="also write spans.jsonl: when each part of each step began and ended"
    )
    wandb: WandBSection | None = Field(None, description="send to Weights & Biases")
    mlflow: MLflowSection | None = Field(None, description="send to MLflow")
    anomalies: AnomaliesSection | None = Field(
        None,
        description="notice data stalls, throttling, divergence and growing memory as they happen; "
        "{} for the defaults",
    )
    profile: ProfileSection | None = Field(
        None,
        description="also write profile-<phase>.collapsed, stacks for flame graphs, in the output "
        "folder; {} for the defaults",
    )
    otlp: OtlpSection | None = Field(
        None, description="send spans and figures to a collector of OpenTelemetry"
    )
    prometheus: PrometheusSection | None = Field(
        None, description="answer Prometheus while training goes on"
    )


def callbacks_of(section: ObserveSection, folder: Path, *, warn: Warn) -> list[Callback]:
    """Callbacks for what the section asks for; `folder` is the run's.

    What they send over a network is lost when that fails: `warn` is told. Raises UnsupportedError
    for a package that is not installed, and StorageError for a path that cannot be written, as far
    as that is known before anything is.
    """
    asked = ((make, getattr(section, name)) for name, make in _EXPORTERS.items())
    return [make(setting, folder, warn) for make, setting in asked if setting not in (None, False)]


def _csv(setting: Literal[True] | str, folder: Path, _warn: Warn) -> Callback:
    from entrenar_core.train.exporters.csv_file import CsvLog

    if setting is True:
        return CsvLog(folder / "metrics.csv")
    path = Path(setting)
    _check_writable(path.parent)
    return CsvLog(path)


def _tensorboard(setting: str, _folder: Path, _warn: Warn) -> Callback:
    from entrenar_core.train.exporters.tensorboard import TensorBoard

    _check_writable(Path(setting))
    return TensorBoard(setting)


def _spans(_setting: bool, folder: Path, _warn: Warn) -> Callback:
    from entrenar_core.train.exporters.spans_file import SpansLog

    return SpansLog(folder / "spans.jsonl")


def _wandb(setting: WandBSection, folder: Path, warn: Warn) -> Callback:
    from entrenar_core.train.exporters.wandb import WandB

    return WandB(
        setting.project, name=setting.name, offline=setting.offline, folder=folder, warn=warn
    )


def _mlflow(setting: MLflowSection, _folder: Path, warn: Warn) -> Callback:
    from entrenar_core.train.exporters.mlflow import MLflow

    return MLflow(setting.tracking_uri, experiment=setting.experiment, warn=warn)


def _anomalies(setting: AnomaliesSection, _folder: Path, _warn: Warn) -> Callback:
    from entrenar_core.train.anomalies.detector import AnomalyDetector

    return AnomalyDetector(setting)


def _profile(setting: ProfileSection, folder: Path, _warn: Warn) -> Callback:
    from entrenar_core.train.sampling_profiler import SamplingProfiler

    return SamplingProfiler(setting, folder=folder)


def _otlp(setting: OtlpSection, folder: Path, warn: Warn) -> Callback:
    from entrenar_core.train.exporters.otlp import OtlpExporter

    return OtlpExporter(OtlpSettings.of(setting, run_id=_identity(folder)), warn=warn)


def _prometheus(setting: PrometheusSection, folder: Path, _warn: Warn) -> Callback:
    from entrenar_core.train.exporters.prometheus import PrometheusEndpoint

    return PrometheusEndpoint(setting, run_id=_identity(folder))


def _identity(folder: Path) -> str:
    """What a run that goes on in the same folder has too, and does not say where that is."""
    place = f"{socket.gethostname()}:{folder.resolve()}"
    return hashlib.sha256(place.encode("utf-8", "surrogateescape")).hexdigest()[:32]


_EXPORTERS: Mapping[str, Callable[[Any, Path, Warn], Callback]] = MappingProxyType(
    {
        "csv": _csv,
        "tensorboard": _tensorboard,
        "spans": _spans,
        "wandb": _wandb,
        "mlflow": _mlflow,
        "anomalies": _anomalies,
        "profile": _profile,
        "otlp": _otlp,
        "prometheus": _prometheus,
    }
)
"""What makes the callback of each key, given its setting, the run's folder and who is warned.
They import what they need: a configuration is read without it."""


def _check_writable(folder: Path) -> None:
    """Raise StorageError unless the folder, or the nearest one above it, can be written."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    if not folder.is_dir():
        raise StorageError(f"{folder}: is not a folder", hint="give a path in another folder")
    files.probe_writable(folder)
