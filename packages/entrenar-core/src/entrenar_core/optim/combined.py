"""Several optimizers that act as one."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from entrenar_common.errors import ConfigError
from entrenar_core.autograd import Parameter
from entrenar_core.optim.base import Optimizer

_NOT_HIDDEN = ("embed", "lm_head", "wte", "wpe", "classifier", "score")
"""Parts of the names of matrices that are next to the tokens or the labels."""


class Combined(Optimizer):
    """Steps `optimizers` together: one learning rate, which each of them may scale, one clipping by
    the norm of all gradients, and all or none of them skip.

    Raises ConfigError when a parameter, or the name of a state, is of two of them.
    """

    def __init__(self, optimizers: Sequence[Optimizer]):
        self.optimizers = list(optimizers)
        owned: dict[int, str] = {}
        states: set[str] = set()
        for each in self.optimizers:
            for identity, name in each.parameter_names().items():
                if identity in owned:
                    raise ConfigError(
                        f"{name} is updated by two of the combined optimizers",
                        hint="divide the parameters, for instance with partition",
                    )
                owned[identity] = name
            for state in each.state():
                if state in states:
                    raise ConfigError(
                        f"two of the combined optimizers have a state {state}",
                        hint="call parameters by their full names in the model",
                    )
                states.add(state)
        self._names = owned

    def zero_grad(self) -> None:
        for each in self.optimizers:
            each.zero_grad()

    def sum_of_squares(self) -> float:
        return sum(each.sum_of_squares() for each in self.optimizers)

    def limit_gradients(self, max_value: float) -> None:
        for each in self.optimizers:
            each.limit_gradients(max_value)

    def update(self, lr: float, scale: float = 1.0) -> None:
        self.steps += 1
        for each in self.optimizers:
            each.update(lr, scale)

    def state(self) -> dict[str, np.ndarray]:
        return {name: view for each in self.optimizers for name, view in each.state().items()}

    def restore(self, tensors: Mapping[str, np.ndarray], steps: int) -> None:
        super().restore(tensors, steps)
        for each in self.optimizers:
            each.steps = steps

    def parameter_names(self) -> dict[int, str]:
        return dict(self._names)


def partition(
    parameters: Mapping[str, Parameter], chosen: Callable[[str, Parameter], bool]
) -> tuple[dict[str, Parameter], dict[str, Parameter]]:
    """The parameters that `chosen` takes, by its name and the parameter, and the others."""
    taken = {name: p for name, p in parameters.items() if chosen(name, p)}
    return taken, {name: p for name, p in parameters.items() if name not in taken}


def hidden_matrices(name: str, parameter: Parameter) -> bool:
    """What Muon is for: matrices that are not an embedding or a head, by the names that models of
    `entrenar_core.models` have."""
    return parameter.data.ndim == 2 and not any(part in name for part in _NOT_HIDDEN)
