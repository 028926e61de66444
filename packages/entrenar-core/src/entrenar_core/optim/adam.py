"""Adam: steps in units of the gradient's running root mean square."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from entrenar_common.errors import ConfigError, UnsupportedError
from entrenar_core import kernels
from entrenar_core.autograd import Parameter
from entrenar_core.kernels.blockwise import BLOCK, dynamic_map
from entrenar_core.optim.flat import FlatOptimizer
from entrenar_core.optim.groups import Decays, FlatGroup, Options, decays_everything

MIN_8BIT_SIZE = 4096
"""Parameters with fewer elements keep their moments as they are: little is saved there, and biases
and norm weights are delicate. The number is bitsandbytes'."""


@dataclass(frozen=True)
class AdamOptions(Options):
    beta1: float | None = None
    beta2: float | None = None
    eps: float | None = None
    amsgrad: bool | None = None
    maximize: bool | None = None
    state_bits: int | None = None


class Adam(FlatOptimizer):
    """m ← β₁m + (1−β₁)g, v ← β₂v + (1−β₂)g², p ← p − lr · m̂ / (√v̂ + ε), where m̂ and v̂ are
    corrected for their start at zero; `weight_decay` adds λp to g. With `amsgrad` the largest v so
    far divides.

    `state_bits=8` keeps m and v in a quarter of the memory: one byte for each number, in blocks of
    256 with a scale each (see `kernels.blockwise`). A block in which gradients differ by orders of
    magnitude, as those of rare and frequent tokens do, loses the small ones: leave embeddings in
    full with `groups={"*embed*": AdamOptions(state_bits=32)}`.
    Raises UnsupportedError for AMSGrad in 8 bits.
    Sources: Kingma and Ba 2015, arXiv:1412.6980; Reddi et al. 2018, arXiv:1904.09237; 8 bits:
    Dettmers et al. 2022, arXiv:2110.02861.
    """

    kind = "adam"
    decoupled: ClassVar[bool] = False
    """Whether weight decay shrinks the parameters by itself instead of joining the gradient."""

    def __init__(
        self,
        parameters: Mapping[str, Parameter],
        *,
        beta1: float = 0.9,
        beta2: float = 0.999,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        amsgrad: bool = False,
        maximize: bool = False,
        state_bits: int = 32,
        lr_scale: float = 1.0,
        decays: Decays = decays_everything,
        groups: Mapping[str, AdamOptions] | None = None,
    ):
        options = AdamOptions(
            lr_scale, weight_decay, beta1, beta2, eps, amsgrad, maximize, state_bits
        )
        super().__init__(parameters, options, groups, decays)

    def _grouped(self, members: dict[str, Parameter], options: Any) -> Iterable[FlatGroup]:
        _check_bits(options)
        coded = {
            name: p
            for name, p in members.items()
            if options.state_bits == 8 and p.data.size >= MIN_8BIT_SIZE
        }
        plain = {name: p for name, p in members.items() if name not in coded}
        if coded:
            group = FlatGroup(coded, options, alignment=BLOCK)
            for slot, signed in (("m", True), ("v", False)):
                # the code of zero, also between the parameters, whose codes are not saved
                group.add_slot(slot, "uint8", fill=int(np.flatnonzero(dynamic_map(signed) == 0)[0]))
                group.add_block_slot(f"{slot}_absmax")
            yield group
        if plain:
            group = FlatGroup(plain, options)
            for slot in ("m", "v", "peak") if options.amsgrad else ("m", "v"):
                group.add_slot(slot)
            yield group

    def _update(self, group: FlatGroup, lr: float, scale: float) -> None:
        options, slots = group.options, group.slots
        rates = {
            "lr": lr, "beta1": options.beta1, "beta2": options.beta2, "eps": options.eps,
            "step": self.steps, "scale": scale,
        }  # fmt: skip
        if "m_absmax" in slots:
            kernels.adam_8bit(
                group.data, group.grads(), slots["m"], slots["v"],
                slots["m_absmax"], slots["v_absmax"], **rates,
                l2=0.0 if self.decoupled else options.weight_decay,
                decay=1.0 - lr * options.weight_decay if self.decoupled else 1.0,
            )  # fmt: skip
        else:
            kernel = kernels.adamw if self.decoupled else kernels.adam
            kernel(
                group.data, group.grads(), slots["m"], slots["v"], peak=slots.get("peak"),
                weight_decay=options.weight_decay, **rates,
            )  # fmt: skip


def _check_bits(options: AdamOptions) -> None:
    if options.state_bits not in (8, 32):
        raise ConfigError(
            f"state_bits is {options.state_bits}",
            hint="use 8 for coded moments, or 32 for moments in the precision of the parameters",
        )
    if options.amsgrad and options.state_bits == 8:
        raise UnsupportedError(
            "amsgrad with state_bits 8: the largest v so far has no 8-bit code",
            hint="leave out one of the two",
        )
