"""Which parameters share which options, and the flat memory that they share."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from fnmatch import fnmatchcase
from typing import Any, TypeVar

import numpy as np

from entrenar_common.errors import ConfigError
from entrenar_core.autograd import Parameter
from entrenar_core.kernels.blockwise import BLOCK

ALIGNMENT = 16
"""Parameters start at multiples of this many elements: a whole vector register."""


@dataclass(frozen=True)
class Options:
    """The options of some parameters. In `groups` None means: as the optimizer has it."""

    lr_scale: float | None = None
    """The learning rate is multiplied by this."""
    weight_decay: float | None = None


_RANGES: dict[str, tuple[float, float, str]] = {
    "lr_scale": (0.0, float("inf"), "at least 0"),
    "beta1": (0.0, 1.0, "at least 0 and below 1"),
    "beta2": (0.0, 1.0, "at least 0 and below 1"),
    "eps": (0.0, float("inf"), "at least 0"),
    "eps1": (0.0, float("inf"), "at least 0"),
    "eps2": (0.0, float("inf"), "at least 0"),
    "weight_decay": (0.0, float("inf"), "at least 0"),
    "momentum": (0.0, float("inf"), "at least 0"),
    "dampening": (-float("inf"), float("inf"), "a finite number"),
    "alpha": (0.0, float("inf"), "at least 0"),
    "d": (1.0, float("inf"), "at least 1"),
    "beta2_decay": (-float("inf"), np.nextafter(0, 1), "at most 0"),
    "newton_schulz_steps": (0, 100, "from 0 to 99"),
}
"""What the options of all optimizers may be: from, below, and both in words."""

Decays = Callable[[str, Parameter], bool]
Chosen = TypeVar("Chosen", bound=Options)


def decays_matrices(_name: str, parameter: Parameter) -> bool:
    """The usual rule: weight decay for matrices, none for biases and norm weights."""
    return parameter.data.ndim >= 2


def decays_everything(_name: str, _parameter: Parameter) -> bool:
    """Weight decay for every parameter, as PyTorch has it."""
    return True


def divide(
    parameters: Mapping[str, Parameter],
    options: Chosen,
    groups: Mapping[str, Chosen] | None,
    decays: Decays,
) -> list[tuple[Chosen, dict[str, Parameter]]]:
    """The trained parameters by their options, each set of one dtype.

    A parameter takes the options of the first pattern in `groups` that matches its name, over
    `options`; where `decays` denies it, and its group does not say otherwise, without weight decay.
    Raises ConfigError for a value out of its range, a pattern without a match, options of another
    optimizer, and a parameter under two names.
    """
    groups = groups or {}
    for pattern, changes in groups.items():
        if type(changes) is not type(options):
            raise ConfigError(
                f"the group {pattern!r} has {type(changes).__name__}",
                hint=f"give this optimizer's groups {type(options).__name__}",
            )
    trained = {name: p for name, p in parameters.items() if p.requires_grad}
    _refuse_repeated(trained)
    divided: dict[tuple[Chosen, np.dtype], dict[str, Parameter]] = {}
    unused = set(groups)
    for name, parameter in trained.items():
        pattern = next((p for p in groups if fnmatchcase(name, p)), None)
        unused.discard(pattern or "")
        base = options if decays(name, parameter) else replace(options, weight_decay=0.0)
        chosen = base if pattern is None else _over(groups[pattern], base)
        divided.setdefault((chosen, parameter.dtype), {})[name] = parameter
    if unused:
        raise ConfigError(
            f"the group {min(unused)!r} has no trained parameter",
            hint="patterns are those of a shell, for the whole name, such as '*.bias'; the first "
            "that matches takes a parameter",
        )
    for chosen, _ in divided:
        _check(chosen)
    return [(chosen, members) for (chosen, _), members in divided.items()]


def _over(changes: Chosen, options: Chosen) -> Chosen:
    given = {field.name: getattr(changes, field.name) for field in fields(changes)}
    return replace(options, **{name: v for name, v in given.items() if v is not None})


def _check(options: Options) -> None:
    for field in fields(options):
        value = getattr(options, field.name)
        if field.name in _RANGES and value is not None:
            low, end, words = _RANGES[field.name]
            if not low <= value < end:
                raise ConfigError(
                    f"{field.name} is {value} in {type(options).__name__}",
                    hint=f"{field.name} has to be {words}",
                )


def _refuse_repeated(parameters: Mapping[str, Parameter]) -> None:
    names: dict[int, str] = {}
    for name, parameter in parameters.items():
        first = names.setdefault(id(parameter), name)
        if first != name:
            raise ConfigError(
                f"{first} and {name} are one parameter",
                hint="give each parameter once, as Module.named_parameters does",
            )


class FlatGroup:
    """Parameters of one dtype and with one set of options, in flat arrays.

    Takes over their memory: their `data` and gradients become views of `data` and of the array that
    `grads` returns. `slots` are flat arrays beside them, `views` the parts of those by
    `<slot>.<parameter>`.
    """

    def __init__(
        self, members: Mapping[str, Parameter], options: Any, *, alignment: int = ALIGNMENT
    ):
        self.members, self.options = dict(members), options
        self.parts: dict[str, slice] = {}
        self.slots: dict[str, np.ndarray] = {}
        self.views: dict[str, np.ndarray] = {}
        size = 0
        for name, parameter in members.items():
            self.parts[name] = slice(size, size + parameter.data.size)
            size += -(-parameter.data.size // alignment) * alignment
        self.dtype = next(iter(members.values())).dtype
        self.data, self._grads = np.zeros(size, self.dtype), np.zeros(size, self.dtype)
        for name, parameter in members.items():
            part = self.parts[name]
            self.data[part] = parameter.data.reshape(-1)
            parameter.data = self.data[part].reshape(parameter.shape)
            parameter.grad_buffer = self._grads[part].reshape(parameter.shape)

    def add_slot(self, slot: str, dtype: Any = None, *, fill: int = 0) -> None:
        """An array with an element for each of the parameters', all `fill` at first."""
        flat = self.slots[slot] = np.full(self.data.size, fill, dtype or self.dtype)
        for name, part in self.parts.items():
            self.views[f"{slot}.{name}"] = flat[part].reshape(self.members[name].shape)

    def add_block_slot(self, slot: str) -> None:
        """An array of zeros with a float32 for each block of `BLOCK` elements of a parameter. The
        alignment has to be a multiple of that."""
        flat = self.slots[slot] = np.zeros(self.data.size // BLOCK, np.float32)
        for name, part in self.parts.items():
            self.views[f"{slot}.{name}"] = flat[part.start // BLOCK : -(-part.stop // BLOCK)]

    def add_view(self, slot: str, name: str, array: np.ndarray) -> None:
        """An array that is kept for one parameter."""
        self.views[f"{slot}.{name}"] = array

    def zero_grad(self) -> None:
        for parameter in self.members.values():
            parameter.grad = None

    def grads(self) -> Any:
        """The flat gradients. A parameter that no gradient has reached counts as zero; one whose
        `grad` was set by hand is copied in."""
        for parameter in self.members.values():
            if parameter.grad is not parameter.grad_buffer:
                parameter.grad_buffer[...] = 0 if parameter.grad is None else parameter.grad
                parameter.grad = parameter.grad_buffer
        return self._grads
