"""What a training holds in arrays, as its checkpoints have it."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from entrenar_common.errors import CheckpointError, NumericsError
from entrenar_core.autograd import Parameter
from entrenar_core.optim import Optimizer
from entrenar_core.qat import QuantizedModel
from entrenar_core.train.average import WeightAverage
from entrenar_core.train.checkpoint import Checkpoint

__all__ = ["BESIDE", "TrainingState"]

BESIDE = "objective"
"""The stem of the file, and the start of the names, of what an objective trains besides a model."""


class TrainingState:
    """The arrays of a training, in the files of a checkpoint: `model`, `objective` where that
    trains something itself, `optimizer`, and `quantization` and `average` where there are any."""

    def __init__(
        self,
        trained: Mapping[str, Parameter],
        beside: Mapping[str, Parameter],
        optimizer: Optimizer,
        *,
        quantized: QuantizedModel | None,
        average: WeightAverage | None,
    ):
        self.weights = {"model": trained} | ({BESIDE: beside} if beside else {})
        self.optimizer, self.quantized, self.average = optimizer, quantized, average

    def tensors(self) -> dict[str, dict[str, np.ndarray]]:
        """Views of all of it, by file and name."""
        found = {stem: {n: p.data for n, p in of.items()} for stem, of in self.weights.items()}
        found["optimizer"] = self.optimizer.state()
        if self.quantized is not None:
            found["quantization"] = self.quantized.state()
        if self.average is not None:
            found["average"] = self.average.state()
        return found

    def restore(self, checkpoint: Checkpoint, optimizer_steps: int) -> None:
        """Take over what is in `checkpoint`. Raises CheckpointError where that is of another model
        or another configuration."""
        self.restore_weights(checkpoint)
        if self.quantized is not None:
            self.quantized.restore(checkpoint.tensors("quantization"))
        if self.average is not None:
            self.average.restore(checkpoint.tensors("average"), optimizer_steps)
        self.optimizer.restore(checkpoint.tensors("optimizer"), optimizer_steps)

    def restore_weights(self, checkpoint: Checkpoint, *, averaged: bool = False) -> None:
        """Take over the weights alone; with `averaged`, their averages as the model's weights."""
        saved = {stem: checkpoint.tensors(stem) for stem in self.weights}
        if any(_shapes(saved[stem]) != _shapes(trained) for stem, trained in self.weights.items()):
            raise CheckpointError(
                f"{checkpoint.path}: its tensors are not those of this model",
                hint="resume with the config that the checkpoint was made with",
            )
        if averaged:
            saved["model"] = checkpoint.tensors("average")
        for stem, trained in self.weights.items():
            for name, parameter in trained.items():
                parameter.data[...] = saved[stem][name]

    def check_finite(self, where: str, good: str) -> None:
        """Raise NumericsError unless all weights are finite. `where` is the step, `good` the last
        good checkpoint, in words."""
        for trained in self.weights.values():
            for name, parameter in trained.items():
                if not np.isfinite(parameter.data).all():
                    raise NumericsError(
                        f"the weights of {name} are not finite at {where}: not saved",
                        hint="lower training.learning_rate, or check the student that was started "
                        f"from; last good checkpoint: {good}",
                    )


def _shapes(tensors: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}
