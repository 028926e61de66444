"""The section `optimizer`: which one, and its own parameters beside its name."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any, Literal

import numpy as np
from pydantic import Field, ValidationInfo, field_validator, model_validator

from entrenar_common.errors import ConfigError, UnsupportedError
from entrenar_common.text import nearest
from entrenar_core import optim
from entrenar_core.autograd import Parameter
from entrenar_core.train.config import TrainingConfig
from entrenar_core.train.strict import StrictModel

__all__ = ["OPTIMIZERS", "OptimizerSection"]

OPTIMIZERS: Mapping[str, Any] = {
    "adam": optim.Adam,
    "adamw": optim.AdamW,
    "sgd": optim.SGD,
    "rmsprop": optim.RMSprop,
    "lion": optim.Lion,
    "adafactor": optim.Adafactor,
    "muon": optim.Muon,
}
"""The optimizers by the name that configurations give them."""

_RATE = TrainingConfig.model_fields["learning_rate"].default
_ALL = (
    "weight_decay", "beta1", "beta2", "eps", "amsgrad", "state_bits", "momentum", "dampening",
    "nesterov", "alpha", "centered", "beta2_decay", "eps1", "eps2", "d", "adjust_lr",
    "newton_schulz_steps", "others_lr_scale",
)  # fmt: skip
_OF_OTHERS = "others_lr_scale"
"""Of Muon beside AdamW."""
_SLOWER = 0.1
"""What that is where it is not given: Muon's rates are about ten times AdamW's."""


class OptimizerSection(StrictModel):
    """The optimizer: its name, the learning rate, and what else it takes."""

    name: Literal["adam", "adamw", "sgd", "rmsprop", "lion", "adafactor", "muon"] = Field(
        "adamw", description="which optimizer; muon: with AdamW for all but hidden matrices"
    )
    lr: float = Field(_RATE, gt=0, description="peak learning rate, after the warm-up")
    weight_decay: float | None = Field(None, ge=0, description="all: weight decay")
    beta1: float | None = Field(
        None, ge=0, lt=1, description="adam, adamw, lion: decay of the first moment"
    )
    beta2: float | None = Field(
        None, ge=0, lt=1, description="adam, adamw, lion: decay of the second moment"
    )
    eps: float | None = Field(
        None, gt=0, description="adam, adamw, rmsprop, muon: added to what is divided by"
    )
    amsgrad: bool | None = Field(
        None, description="adam, adamw: divide by the largest second moment so far"
    )
    state_bits: Literal[8, 32] | None = Field(
        None, description="adam, adamw: bits of a number of the moments"
    )
    momentum: float | None = Field(None, ge=0, description="sgd, rmsprop, muon: momentum")
    dampening: float | None = Field(None, description="sgd: what of a gradient momentum leaves out")
    nesterov: bool | None = Field(None, description="sgd, muon: look ahead along the momentum")
    alpha: float | None = Field(None, ge=0, lt=1, description="rmsprop: decay of the mean square")
    centered: bool | None = Field(None, description="rmsprop: divide by the standard deviation")
    beta2_decay: float | None = Field(
        None, le=0, description="adafactor: exponent of the decay of the second moment"
    )
    eps1: float | None = Field(None, gt=0, description="adafactor: added to squared gradients")
    eps2: float | None = Field(
        None, gt=0, description="adafactor: the least root mean square of a parameter"
    )
    d: float | None = Field(None, ge=1, description="adafactor: updates are clipped to this")
    adjust_lr: Literal["original", "match_rms_adamw"] | None = Field(
        None, description="muon: how the rate goes by a matrix's shape"
    )
    newton_schulz_steps: int | None = Field(
        None, ge=1, le=99, description="muon: steps of the iteration that makes updates orthogonal"
    )
    others_lr_scale: float | None = Field(
        None, gt=0, description="muon: the rate of AdamW for the other parameters, as a share of lr"
    )

    @field_validator(*_ALL)
    @classmethod
    def _of_the_optimizer(cls, value: Any, info: ValidationInfo) -> Any:
        name, key = info.data.get("name"), str(info.field_name)
        if value is None or name is None or key in _takes(name):
            return value
        near = nearest(key, _takes(name))
        guess = f"did you mean {near}? " if near else ""
        raise ValueError(
            f"is no parameter of {name}; {guess}{name} takes {', '.join(('lr', *_takes(name)))}"
        )

    @model_validator(mode="after")
    def _goes_together(self) -> "OptimizerSection":
        try:
            self.make({"hidden.weight": Parameter(np.zeros((2, 2), np.float32))})
        except (ConfigError, UnsupportedError) as error:
            raise ValueError(f"{error.message}; {error.hint}") from error
        return self

    @property
    def given(self) -> dict[str, Any]:
        """The parameters that are given; others are as the optimizer has them."""
        return {key: value for key in _ALL if (value := getattr(self, key)) is not None}

    @property
    def make(self) -> Callable[[Mapping[str, Parameter]], optim.Optimizer]:
        """What makes the optimizer for parameters by name."""
        given = self.given
        if self.name == "muon":
            return lambda parameters: _muon(parameters, given)
        kind = OPTIMIZERS[self.name]
        return lambda parameters: kind(parameters, **given)


def _takes(name: str) -> tuple[str, ...]:
    """The parameters of an optimizer that a configuration may give."""
    known = inspect.signature(OPTIMIZERS[name]).parameters
    own = (_OF_OTHERS,) if name == "muon" else ()
    return tuple(key for key in _ALL if key in known or key in own)


def _muon(parameters: Mapping[str, Parameter], given: Mapping[str, Any]) -> optim.Optimizer:
    """Muon for hidden matrices, and AdamW for the rest, which it is not for."""
    own = {key: value for key, value in given.items() if key != _OF_OTHERS}
    hidden, rest = optim.partition(parameters, optim.hidden_matrices)
    if not rest:
        return optim.Muon(hidden, **own)
    if not hidden:
        raise ConfigError(
            "muon, and no hidden matrix is trained",
            hint="use adamw: muon is for matrices that are not next to the tokens or the labels",
        )
    others = optim.AdamW(rest, lr_scale=given.get(_OF_OTHERS, _SLOWER))
    return optim.Combined([optim.Muon(hidden, **own), others])
