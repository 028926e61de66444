"""Muon: momentum steps whose matrix is made nearly orthogonal."""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from entrenar_common.errors import ConfigError, ShapeError
from entrenar_core import kernels
from entrenar_core.autograd import Parameter
from entrenar_core.optim.flat import FlatOptimizer
from entrenar_core.optim.groups import FlatGroup, Options

COEFFICIENTS = (3.4445, -4.775, 2.0315)
"""Jordan's: chosen for a steep slope at zero, so that five steps are enough."""

ADJUSTMENTS: dict[str, Callable[[int, int], float]] = {
    "original": lambda rows, columns: math.sqrt(max(1.0, rows / columns)),
    "match_rms_adamw": lambda rows, columns: 0.2 * math.sqrt(max(rows, columns)),
}
"""What the rate of a matrix is multiplied by. The second (Liu et al. 2025, arXiv:2502.16982) makes
steps of the size of AdamW's, so that its rates and weight decay can be kept."""


@dataclass(frozen=True)
class MuonOptions(Options):
    momentum: float | None = None
    nesterov: bool | None = None
    adjust_lr: str | None = None
    coefficients: tuple[float, float, float] | None = None
    eps: float | None = None
    newton_schulz_steps: int | None = None


class Muon(FlatOptimizer):
    """b ← μb + (1−μ)g, O = newton_schulz(b, or (1−μ)g + μb with Nesterov),
    p ← p·(1 − lr·λ) − lr·ratio·O. For the matrices of hidden layers; the rest is for another
    optimizer:

        hidden, rest = partition(model.named_parameters(), hidden_matrices)
        Combined([Muon(hidden), AdamW(rest, lr_scale=0.1)])

    The iteration runs in the precision of the parameters.
    Raises ShapeError for a parameter that is not a matrix.
    Source: Jordan 2024, "Muon: An optimizer for hidden layers in neural networks".
    """

    kind = "muon"

    def __init__(
        self,
        parameters: Mapping[str, Parameter],
        *,
        momentum: float = 0.95,
        nesterov: bool = True,
        weight_decay: float = 0.1,
        adjust_lr: str = "original",
        coefficients: tuple[float, float, float] = COEFFICIENTS,
        eps: float = 1e-7,
        newton_schulz_steps: int = 5,
        lr_scale: float = 1.0,
        groups: Mapping[str, MuonOptions] | None = None,
    ):
        options = MuonOptions(
            lr_scale, weight_decay, momentum, nesterov, adjust_lr, coefficients, eps,
            newton_schulz_steps,
        )  # fmt: skip
        super().__init__(parameters, options, groups)

    def _grouped(self, members: dict[str, Parameter], options: Any) -> Iterable[FlatGroup]:
        if options.adjust_lr not in ADJUSTMENTS:
            raise ConfigError(
                f"adjust_lr is {options.adjust_lr!r}", hint=f"use one of {', '.join(ADJUSTMENTS)}"
            )
        for name, parameter in members.items():
            if parameter.data.ndim != 2:
                raise ShapeError(
                    f"Muon: {name} is {parameter.shape}, not a matrix",
                    hint="give it to AdamW: Combined([Muon(hidden), AdamW(rest)]) with "
                    "hidden, rest = partition(parameters, hidden_matrices)",
                )
        group = FlatGroup(members, options)
        group.add_slot("momentum")
        yield group

    def _update(self, group: FlatGroup, lr: float, scale: float) -> None:
        group.grads()
        options = group.options
        for name, parameter in group.members.items():
            kernels.muon(
                parameter.data, parameter.grad, group.views[f"momentum.{name}"], lr=lr,
                ratio=ADJUSTMENTS[options.adjust_lr](*parameter.shape), scale=scale,
                momentum=options.momentum, nesterov=options.nesterov,
                weight_decay=options.weight_decay, coefficients=options.coefficients,
                eps=options.eps, steps=options.newton_schulz_steps,
            )  # fmt: skip
