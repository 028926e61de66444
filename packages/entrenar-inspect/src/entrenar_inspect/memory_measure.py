"""Measuring what was predicted: a training and an inference, each in a process of its own."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from entrenar_common.errors import UnsupportedError
from entrenar_common.progress import NullProgress, Progress
from entrenar_core.estimate import ModelShape, Setup
from entrenar_core.estimate.engines import Engine
from entrenar_core.estimate.find import find_weights
from entrenar_core.estimate.inference import Inference
from entrenar_core.train.measuring import (
    check_room,
    check_space,
    measure_inference,
    measure_training,
    random_model,
)
from entrenar_inspect.memory_view import Measured, MemoryReport
from entrenar_inspect.opening import HUB


def measured(
    report: MemoryReport,
    model: str,
    shape: ModelShape,
    *,
    engine: Engine,
    setup: Setup,
    inference: Inference,
    progress: Progress | None = None,
) -> MemoryReport:
    """`report` with what a training and an inference of the model really take.

    A model without weights on this machine gets random ones, in a temporary folder. Raises
    UnsupportedError for an engine or a model that cannot be run here, OutOfMemoryError where the
    prediction exceeds the memory there is, and what running it raises.
    """
    if engine.name != "entrenar":
        raise UnsupportedError(
            f"--measure with the engine {engine.name}: nothing here runs it",
            hint="use --engine entrenar",
        )
    if not shape.predicts_tokens:
        raise UnsupportedError(
            f"--measure: {shape.name} predicts no tokens, so there is no loss to train it with",
            hint="give a language model, or a config with such a head in architectures",
        )
    check_room(report.training.total_bytes, "the training")
    check_room(report.inference.total_bytes, "the inference")
    progress = progress or NullProgress()
    progress.start("measure", 2)
    with _weights(model, shape, engine) as folder:
        runs: dict[str, Callable[[], int]] = {
            "inference": lambda: measure_inference(folder, inference),
            "training": lambda: measure_training(folder, setup),
        }
        predicted = {
            "inference": report.inference.total_bytes,
            "training": report.training.total_bytes,
        }
        found = []
        for use, run in runs.items():
            found.append(_measured(use, predicted[use], run()))
            progress.advance()
    progress.finish()
    return replace(report, measured=tuple(found))


def _measured(use: str, predicted: int, peak: int) -> Measured:
    return Measured(use, predicted, peak, predicted / peak - 1)


@contextmanager
def _weights(model: str, shape: ModelShape, engine: Engine) -> Iterator[Path]:
    there = None if model.startswith(HUB) else find_weights(model)
    if there is not None:
        yield there
        return
    whole = engine.inference(shape, Inference("float32", 1, 1)).total
    check_room(whole, "a model with random weights")
    check_space(4 * shape.parameters)
    with random_model(shape.raw) as folder:
        yield folder
