"""What every optimizer does: forget gradients, measure and clip them, step, save and continue."""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping

import numpy as np

from entrenar_common.errors import CheckpointError


class Optimizer(ABC):
    """One update of some parameters for each call of `step`, by their gradients.

    The learning rate is given with every step (see `schedule`); groups may scale it. `steps` counts
    the updates; one that was skipped is not counted.
    """

    steps: int = 0

    @abstractmethod
    def zero_grad(self) -> None:
        """Forget the gradients. Their memory is kept for the next ones."""

    @abstractmethod
    def sum_of_squares(self) -> float:
        """Σg² over all gradients; NaN or infinite if one of them is."""

    @abstractmethod
    def limit_gradients(self, max_value: float) -> None:
        """Clip every element of the gradients to [−max_value, max_value], in place."""

    @abstractmethod
    def update(self, lr: float, scale: float = 1.0) -> None:
        """Count a step and take it, with the gradients multiplied by `scale`, whatever they are.

        What is left of `step` without its pass over the gradients: no norm, no clipping, and a
        gradient that is not finite is followed.
        """

    @abstractmethod
    def state(self) -> dict[str, np.ndarray]:
        """Views of what the optimizer remembers, as `<optimizer>.<what>.<parameter>`."""

    @abstractmethod
    def parameter_names(self) -> dict[int, str]:
        """The names of the parameters that are updated, by their identity."""

    def gradient_norm(self) -> float:
        """√Σg² over all gradients; NaN or infinite if one of them is."""
        return math.sqrt(self.sum_of_squares())

    def step(self, lr: float, *, max_norm: float = math.inf, max_value: float = math.inf) -> float:
        """Update the parameters with gradients clipped to ±`max_value`, then scaled down to a
        global norm of `max_norm`.

        Returns the norm before clipping. If it is not finite nothing changes: the step is skipped.
        """
        norm = self.gradient_norm()
        if not math.isfinite(norm):
            return norm
        clipped = norm
        if max_value < math.inf:
            self.limit_gradients(max_value)
            clipped = self.gradient_norm()
        self.update(lr, clip_factor(clipped, max_norm))
        return norm

    def restore(self, tensors: Mapping[str, np.ndarray], steps: int) -> None:
        """Take over a state saved by `state` and the number of steps that it comes from.

        Raises CheckpointError when names, shapes or dtypes differ from this optimizer's.
        """
        views = self.state()
        differing = sorted(
            name
            for name in views.keys() | tensors.keys()
            if _description(views, name) != _description(tensors, name)
        )
        if differing:
            name = differing[0]
            raise CheckpointError(
                f"the optimizer state is of another model or optimizer: {name} is "
                f"{_description(tensors, name)} there and {_description(views, name)} here, and "
                f"{len(differing) - 1} more tensors differ",
                hint="resume with the config that the checkpoint was made with",
            )
        for name, view in views.items():
            view[...] = tensors[name]
        self.steps = steps


def clip_factor(norm: float, max_norm: float) -> float:
    """What gradients of this norm are multiplied by: at most 1. The 1e-6 is PyTorch's.

    >>> clip_factor(0.5, 1.0)
    1.0
    """
    return min(1.0, max_norm / (norm + 1e-6))


def _description(tensors: Mapping[str, np.ndarray], name: str) -> str:
    return f"{tensors[name].dtype} {tensors[name].shape}" if name in tensors else "absent"
