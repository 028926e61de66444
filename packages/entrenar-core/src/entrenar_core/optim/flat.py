"""Optimizers on flat buffers: one kernel call for all parameters that share their options."""

from abc import abstractmethod
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

import numpy as np

from entrenar_core import kernels
from entrenar_core.autograd import Parameter
from entrenar_core.optim.base import Optimizer
from entrenar_core.optim.groups import Decays, FlatGroup, decays_everything, divide


class FlatOptimizer(Optimizer):
    """The base of the optimizers: an own one says in `_grouped` what it remembers for a group and
    in `_update` how a group moves.

    Takes over the memory of the parameters that require gradients: their `data` and gradients
    become views of flat buffers. State is named after the parameters, never by position.
    """

    kind: ClassVar[str]
    """The first part of the names of the state."""

    def __init__(
        self,
        parameters: Mapping[str, Parameter],
        options: Any,
        groups: Mapping[str, Any] | None,
        decays: Decays = decays_everything,
    ):
        self._groups = [
            group
            for chosen, members in divide(parameters, options, groups, decays)
            for group in self._grouped(members, chosen)
        ]

    def _grouped(self, members: dict[str, Parameter], options: Any) -> Iterable[FlatGroup]:
        """Lay members with equal options into flat memory, with what is remembered for them."""
        yield FlatGroup(members, options)

    @abstractmethod
    def _update(self, group: FlatGroup, lr: float, scale: float) -> None:
        """Move the parameters of a group. `lr` is scaled for the group already; `scale` times the
        gradient is what to follow, downhill or, where the options say so, uphill."""

    def zero_grad(self) -> None:
        for group in self._groups:
            group.zero_grad()

    def sum_of_squares(self) -> float:
        return sum(kernels.sum_of_squares(group.grads()) for group in self._groups)

    def limit_gradients(self, max_value: float) -> None:
        for group in self._groups:
            kernels.limit(group.grads(), max_value)

    def update(self, lr: float, scale: float = 1.0) -> None:
        self.steps += 1
        for group in self._groups:
            sign = -1.0 if getattr(group.options, "maximize", False) else 1.0
            self._update(group, lr * group.options.lr_scale, sign * scale)

    def state(self) -> dict[str, np.ndarray]:
        return {
            f"{self.kind}.{name}": view
            for group in self._groups
            for name, view in group.views.items()
        }

    def parameter_names(self) -> dict[int, str]:
        return {id(p): name for group in self._groups for name, p in group.members.items()}
