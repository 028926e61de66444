"""RMSprop: steps divided by the gradient's running root mean square."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from entrenar_core import kernels
from entrenar_core.autograd import Parameter
from entrenar_core.optim.flat import FlatOptimizer
from entrenar_core.optim.groups import FlatGroup, Options


@dataclass(frozen=True)
class RMSpropOptions(Options):
    alpha: float | None = None
    eps: float | None = None
    momentum: float | None = None
    centered: bool | None = None
    maximize: bool | None = None


class RMSprop(FlatOptimizer):
    """s ← αs + (1−α)g², u = g / (√s + ε) and p ← p − lr·u, or with momentum b ← μb + u and
    p ← p − lr·b. `centered` takes the squared running mean of g from s; `weight_decay` adds λp to
    the gradient.

    Sources: Tieleman and Hinton 2012, lecture 6.5; centred: Graves 2013, arXiv:1308.0850.
    """

    kind = "rmsprop"

    def __init__(
        self,
        parameters: Mapping[str, Parameter],
        *,
        alpha: float = 0.99,
        eps: float = 1e-8,
        momentum: float = 0.0,
        centered: bool = False,
        weight_decay: float = 0.0,
        maximize: bool = False,
        lr_scale: float = 1.0,
        groups: Mapping[str, RMSpropOptions] | None = None,
    ):
        options = RMSpropOptions(lr_scale, weight_decay, alpha, eps, momentum, centered, maximize)
        super().__init__(parameters, options, groups)

    def _grouped(self, members: dict[str, Parameter], options: Any) -> Iterable[FlatGroup]:
        group = FlatGroup(members, options)
        group.add_slot("square")
        if options.centered:
            group.add_slot("mean")
        if options.momentum:
            group.add_slot("momentum")
        yield group

    def _update(self, group: FlatGroup, lr: float, scale: float) -> None:
        options, slots = group.options, group.slots
        kernels.rmsprop(
            group.data, group.grads(), slots["square"], mean=slots.get("mean"),
            buffer=slots.get("momentum"), lr=lr, alpha=options.alpha, eps=options.eps,
            momentum=options.momentum, weight_decay=options.weight_decay, scale=scale,
        )  # fmt: skip
