"""Noticing what goes wrong in a training while it goes on: `AnomalyDetector`."""

from entrenar_core.train.anomalies.detector import AnomalyDetector
from entrenar_core.train.anomalies.figures import StepFigures
from entrenar_core.train.anomalies.finding import Finding
from entrenar_core.train.anomalies.section import AnomaliesSection
from entrenar_core.train.anomalies.watcher import Watcher

__all__ = ["AnomaliesSection", "AnomalyDetector", "Finding", "StepFigures", "Watcher"]
