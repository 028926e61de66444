"""Adafactor: Adam's second moment in the memory of one row and one column."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from entrenar_core import kernels
from entrenar_core.autograd import Parameter
from entrenar_core.optim.flat import FlatOptimizer
from entrenar_core.optim.groups import FlatGroup, Options


@dataclass(frozen=True)
class AdafactorOptions(Options):
    beta2_decay: float | None = None
    eps1: float | None = None
    eps2: float | None = None
    d: float | None = None
    maximize: bool | None = None


class Adafactor(FlatOptimizer):
    """Divides by a second moment that is factored over the last two axes, limits the root mean
    square of the update to `d`, and steps relative to that of the parameter (at least `eps2`).
    Vectors keep their whole second moment.

    The rate of step t is min(lr, 1/√t): an lr of 0.01 is the paper's. `eps1` is the precision of
    the parameters' dtype where it is None. The formulae: `kernels.factored`.
    Source: Shazeer and Stern 2018, arXiv:1804.04235, with PyTorch's `eps1` and learning rate.
    """

    kind = "adafactor"

    def __init__(
        self,
        parameters: Mapping[str, Parameter],
        *,
        beta2_decay: float = -0.8,
        eps1: float | None = None,
        eps2: float = 1e-3,
        d: float = 1.0,
        weight_decay: float = 0.0,
        maximize: bool = False,
        lr_scale: float = 1.0,
        groups: Mapping[str, AdafactorOptions] | None = None,
    ):
        options = AdafactorOptions(lr_scale, weight_decay, beta2_decay, eps1, eps2, d, maximize)
        super().__init__(parameters, options, groups)

    def _grouped(self, members: dict[str, Parameter], options: Any) -> Iterable[FlatGroup]:
        group = FlatGroup(members, options)
        for name, parameter in members.items():
            *stack, rows, columns = (0, 0, *parameter.shape)
            shapes = {"row": (*stack[2:], rows, 1), "column": (*stack[2:], 1, columns)}
            if parameter.data.ndim < 2:
                shapes = {"v": parameter.shape}
            for slot, shape in shapes.items():
                group.add_view(slot, name, np.zeros(shape, group.dtype))
        yield group

    def _update(self, group: FlatGroup, lr: float, scale: float) -> None:
        group.grads()
        options, views = group.options, group.views
        rates = {
            "lr": lr, "beta2_decay": options.beta2_decay, "eps2": options.eps2, "d": options.d,
            "eps1": np.finfo(group.dtype).eps if options.eps1 is None else options.eps1,
            "weight_decay": options.weight_decay, "step": self.steps, "scale": scale,
        }  # fmt: skip
        for name, parameter in group.members.items():
            if parameter.data.ndim < 2:
                kernels.adafactor_vector(
                    parameter.data, parameter.grad, views[f"v.{name}"], **rates
                )
            else:
                kernels.adafactor(
                    parameter.data, parameter.grad, views[f"row.{name}"], views[f"column.{name}"],
                    **rates,
                )  # fmt: skip
