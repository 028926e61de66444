"""Lion: steps of one size, in the direction of a sign."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from entrenar_core import kernels
from entrenar_core.autograd import Parameter
from entrenar_core.optim.flat import FlatOptimizer
from entrenar_core.optim.groups import Decays, FlatGroup, Options, decays_everything


@dataclass(frozen=True)
class LionOptions(Options):
    beta1: float | None = None
    beta2: float | None = None


class Lion(FlatOptimizer):
    """p ← p − lr·(sign(β₁m + (1−β₁)g) + λp), then m ← β₂m + (1−β₂)g.

    Every element moves by lr in each step, so the rate has to be three to ten times smaller than
    Adam's, and the weight decay as much larger.
    Source: Chen et al. 2023, arXiv:2302.06675, algorithm 2.
    """

    kind = "lion"

    def __init__(
        self,
        parameters: Mapping[str, Parameter],
        *,
        beta1: float = 0.9,
        beta2: float = 0.99,
        weight_decay: float = 0.0,
        lr_scale: float = 1.0,
        decays: Decays = decays_everything,
        groups: Mapping[str, LionOptions] | None = None,
    ):
        super().__init__(
            parameters, LionOptions(lr_scale, weight_decay, beta1, beta2), groups, decays
        )

    def _grouped(self, members: dict[str, Parameter], options: Any) -> Iterable[FlatGroup]:
        group = FlatGroup(members, options)
        group.add_slot("m")
        yield group

    def _update(self, group: FlatGroup, lr: float, scale: float) -> None:
        options = group.options
        kernels.lion(
            group.data, group.grads(), group.slots["m"], lr=lr, beta1=options.beta1,
            beta2=options.beta2, weight_decay=options.weight_decay, scale=scale,
        )  # fmt: skip
