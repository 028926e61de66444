"""What a config gives for the parameters of a method, and what that means for one tensor.

A value is a number, a flag or a text; a list of them changes from the first layer of a slice to
its last; and filters choose between several by the name of the tensor. What is nearer to a model
wins: its own settings, those of its slice, of the module, of the config, and then the method's
defaults. Rules: https://github.com/arcee-ai/mergekit, `docs/` and `mergekit/config.py`.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from entrenar_common.errors import ConfigError
from entrenar_common.text import escape_controls
from entrenar_core.merge.method import Method, Parameter
from entrenar_core.merge.reference import ModelRef

Scalar = bool | int | float | str


@dataclass(frozen=True)
class Choice:
    """What the tensors get whose name contains `filter`, or all where it is None: one value, or
    several over the layers of a slice."""

    values: tuple[Scalar, ...]
    filter: str | None = None

    def takes(self, name: str) -> bool:
        """Whether it is for the tensor called `name`."""
        return self.filter in (None, "*") or self.filter in name

    def at(self, t: float) -> Scalar:
        """The value at `t` of the way from the first layer to the last, 0 to 1: between numbers
        along a line, of flags and texts the last that was reached."""
        steps = t * (len(self.values) - 1)
        before = int(steps)
        first = self.values[before]
        if isinstance(first, bool | str):
            return first
        second = self.values[min(before + 1, len(self.values) - 1)]
        assert not isinstance(second, str)
        part = steps - before
        return (1 - part) * first + part * second


Setting = tuple[Choice, ...]
"""What a parameter is given at one place; the first choice that takes a tensor counts."""

Settings = Mapping[str, Setting]
"""What one place of a config gives, by the names of the parameters."""

Levels = Callable[[ModelRef | None], Sequence[Settings]]
"""The settings that count for a model, or for what all share (None): the nearest first."""


@dataclass(frozen=True)
class Named:
    """A tensor of a model under the name that filters look at."""

    model: ModelRef
    name: str


@dataclass(frozen=True)
class Resolved:
    """The parameters of a method for one tensor: one of each, and by model those that each has."""

    shared: Mapping[str, Any]
    each: Mapping[ModelRef, Mapping[str, Any]]


def evaluate(setting: Setting, name: str, t: float) -> Scalar | None:
    """What a setting is for the tensor `name` at `t`; None where no filter takes it."""
    return next((choice.at(t) for choice in setting if choice.takes(name)), None)


def resolve(
    method: Method, levels: Levels, *, name: str, inputs: Iterable[Named],
    base: ModelRef | None, t: float,
) -> Resolved:  # fmt: skip
    """All parameters of `method` for the result's tensor `name`, made of `inputs`.

    Parameters for the models but the base are not looked for in `base`.
    Raises ConfigError where one has no value that has to have one.
    """
    parameters = method.parameters.values()
    everyone = levels(None)
    shared = {
        p.name: _value(p, everyone, name=name, t=t) for p in parameters if p.scope == "shared"
    }
    each = {}
    for tensor in inputs:
        scopes = ("inputs",) if tensor.model == base else ("inputs", "models")
        own = levels(tensor.model)
        each[tensor.model] = {
            p.name: _value(p, own, name=tensor.name, t=t, model=tensor.model)
            for p in parameters
            if p.scope in scopes
        }
    return Resolved(shared, each)


def _value(
    parameter: Parameter,
    levels: Sequence[Settings],
    *,
    name: str,
    t: float,
    model: ModelRef | None = None,
) -> Any:
    for level in levels:
        found = evaluate(level.get(parameter.name, ()), name, t)
        if found is not None:
            return _whole(parameter, found, name) if parameter.kind is int else found
    if parameter.is_required:
        place = f"{escape_controls(name)} of {escape_controls(str(model))}" if model else name
        raise ConfigError(
            f"the parameter {parameter.name} has no value for {escape_controls(place)}",
            hint=f"give {parameter.name} under parameters, with no filter or as the last of "
            "those with one",
        )
    return parameter.default


def _whole(parameter: Parameter, value: Scalar, name: str) -> int:
    """A number between two whole ones need not be one."""
    number = float(value)
    if not number.is_integer():
        raise ConfigError(
            f"the parameter {parameter.name} is {number:g} for {escape_controls(name)}, between "
            "two layers that are given whole numbers",
            hint=f"give one number for {parameter.name}, or choose by filter",
        )
    return int(number)
