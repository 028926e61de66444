"""Stochastic gradient descent with momentum."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from entrenar_common.errors import ConfigError
from entrenar_core import kernels
from entrenar_core.autograd import Parameter
from entrenar_core.optim.flat import FlatOptimizer
from entrenar_core.optim.groups import FlatGroup, Options


@dataclass(frozen=True)
class SGDOptions(Options):
    momentum: float | None = None
    dampening: float | None = None
    nesterov: bool | None = None
    maximize: bool | None = None


class SGD(FlatOptimizer):
    """p ← p − lr·g; with momentum μ: b ← μb + (1−τ)g from b = g in the first step, and
    p ← p − lr·b, or p ← p − lr·(g + μb) (Nesterov). `weight_decay` adds λp to g.

    Raises ConfigError for Nesterov without momentum or with dampening τ.
    Source: Sutskever et al. 2013, "On the importance of initialization and momentum in deep
    learning", as PyTorch writes it.
    """

    kind = "sgd"

    def __init__(
        self,
        parameters: Mapping[str, Parameter],
        *,
        momentum: float = 0.0,
        dampening: float = 0.0,
        nesterov: bool = False,
        weight_decay: float = 0.0,
        maximize: bool = False,
        lr_scale: float = 1.0,
        groups: Mapping[str, SGDOptions] | None = None,
    ):
        options = SGDOptions(lr_scale, weight_decay, momentum, dampening, nesterov, maximize)
        super().__init__(parameters, options, groups)

    def _grouped(self, members: dict[str, Parameter], options: Any) -> Iterable[FlatGroup]:
        if options.nesterov and (options.momentum == 0 or options.dampening != 0):
            raise ConfigError(
                f"nesterov with momentum {options.momentum} and dampening {options.dampening}",
                hint="Nesterov's momentum needs a momentum above 0 and no dampening",
            )
        group = FlatGroup(members, options)
        if options.momentum:
            group.add_slot("momentum")
        yield group

    def _update(self, group: FlatGroup, lr: float, scale: float) -> None:
        options = group.options
        kernels.sgd(
            group.data, group.grads(), buffer=group.slots.get("momentum"),
            lr=lr, momentum=options.momentum, nesterov=options.nesterov,
            dampening=options.dampening if self.steps > 1 else 0.0,
            weight_decay=options.weight_decay, scale=scale,
        )  # fmt: skip
