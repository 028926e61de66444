"""The learning rate of a training, looked for before it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from entrenar_common.progress import NullProgress, Progress
from entrenar_core.train.declarative.evaluation import objective
from entrenar_core.train.declarative.inputs import read_inputs
from entrenar_core.train.declarative.spec import TrainSpec
from entrenar_core.train.find_rate import find_learning_rate
from entrenar_core.train.loop import TrainingLoop

__all__ = ["FoundRate", "find_rate"]


@dataclass(frozen=True)
class FoundRate:
    """What steps at rising learning rates say.

    suggestion:  the rate at which the loss fell fastest; None where `why_none` says why
    diverges_at: the first rate that only led upwards; None where none was reached
    rates, losses, smooth: the rate of each step, the loss before it and its moving average
    """

    suggestion: float | None
    why_none: str
    diverges_at: float | None
    ended: str
    rates: Sequence[float]
    losses: Sequence[float]
    smooth: Sequence[float]


def find_rate(
    spec: TrainSpec,
    *,
    lowest: float = 1e-7,
    highest: float = 1.0,
    steps: int = 100,
    progress: Progress | None = None,
    warn: Callable[[str], None] = lambda _text: None,
) -> FoundRate:
    """Take up to `steps` steps of the training that `spec` says at rates from `lowest` to
    `highest`, and forget them. Nothing is written. See `find_learning_rate`.

    Raises what `read_inputs` and `find_learning_rate` raise.
    """
    inputs = read_inputs(spec, progress=progress or NullProgress())
    for text in inputs.warnings():
        warn(text)
    model = inputs.new_model()
    loop = TrainingLoop(
        model,
        objective(inputs, model),
        inputs.batches,
        spec.training_config(),
        phase="rates",
        metrics=None,
        store=None,
        checkpoint_every=1,
        optimizer=spec.optimizer.make,
    )
    curve = find_learning_rate(loop, lowest=lowest, highest=highest, steps=steps)
    return FoundRate(
        suggestion=curve.suggestion,
        why_none=curve.why_none,
        diverges_at=curve.diverges_at,
        ended=curve.ended,
        rates=curve.rates.tolist(),
        losses=curve.losses.tolist(),
        smooth=curve.smooth.tolist(),
    )
