"""What a method of merging is: a function of a group of tensors, whose keyword parameters are its
settings."""

import importlib
import inspect
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np

from entrenar_common.errors import ConfigError
from entrenar_common.text import escape_controls, nearest
from entrenar_core.merge.group import Block, Group

Rule = Callable[[Block], np.ndarray]
"""From a block of the tensors, in their order, to that of the result: float32 (rows, columns), not
yet rounded to the group's working type, or already."""


PerModel = Annotated[Any, "models"]
"""A number for each model but the base, in the order of `Group.models`; as a default, for all."""

PerInput = Annotated[Any, "inputs"]
"""A number or None for each model, the base too, in the order of `Group.inputs`."""

BasePolicy = Literal["required", "optional", "ignored"]
"""Whether a method needs a base. Where it is ignored, the base is a model as all others."""

LonePolicy = Literal["error", "any", "base", "base or skip"]
"""What is done with a tensor that a model may lack (such as an output matrix that is tied), when
only some of the inputs have it: it is an error; the only one that has it gives it; it does if it
is the base; or it does if it is the base, and else the tensor is left out."""

REQUIRED = inspect.Parameter.empty
"""The default of a parameter that has to be given."""


@dataclass(frozen=True)
class Parameter:
    """A setting of a method: `name` is what configs call it; `scope` says whether there is one of
    it, one for each model but the base, or one for each input."""

    name: str
    kind: type
    scope: Literal["shared", "models", "inputs"]
    default: Any

    @property
    def is_required(self) -> bool:
        return self.default is REQUIRED


@dataclass(frozen=True)
class Method:
    """A method of merging by the name that mergekit's configs give it.

    `function` looks at the tensors of a group once or more, and returns what makes the result of
    each block. `inputs` and `models` are the least and most (None: any number) of all models, and
    of those but the base. `symmetric`: the order of the models means nothing. `keeps` are the
    bytes for each element of a tensor that are kept between passes over it. `source` is where the
    method is described.
    """

    name: str
    function: Callable[..., Rule]
    parameters: Mapping[str, Parameter]
    source: str
    base: BasePolicy
    inputs: tuple[int, int | None]
    models: tuple[int, int | None]
    symmetric: bool
    lone: LonePolicy
    keeps: float

    def rule(self, group: Group, settings: Mapping[str, Any]) -> Rule:
        """What makes the result of each block of `group`. `settings` has all parameters by name."""
        return self.function(group, **{_ours(name): value for name, value in settings.items()})


METHODS: dict[str, Method] = {}
"""Those that are registered; `all_methods` has all of them."""


def method(
    name: str,
    *,
    source: str,
    base: BasePolicy = "required",
    inputs: tuple[int, int | None] = (1, None),
    models: tuple[int, int | None] = (0, None),
    symmetric: bool = True,
    lone: LonePolicy = "error",
    keeps: float = 0.0,
) -> Callable[[Callable[..., Rule]], Callable[..., Rule]]:
    """Registers the decorated function, which takes a group, and as keywords its parameters."""

    def register(function: Callable[..., Rule]) -> Callable[..., Rule]:
        found = {p.name: p for p in _parameters(function)}
        METHODS[name] = Method(
            name, function, found, source, base, inputs, models, symmetric, lone, keeps
        )
        return function

    return register


def all_methods() -> Mapping[str, Method]:
    """All methods by name."""
    importlib.import_module("entrenar_core.merge.methods")  # it fills the table
    return METHODS


def method_named(name: str) -> Method:
    """The method of that name; ConfigError names the nearest one where there is none."""
    found = all_methods().get(name)
    if found is None:
        close = nearest(name, METHODS)
        meant = f"did you mean {close}? " if close else ""
        raise ConfigError(
            f"no method of merging is called {escape_controls(name)!r}",
            hint=f"{meant}There are {', '.join(sorted(METHODS))}",
        )
    return found


def _parameters(function: Callable[..., Rule]) -> list[Parameter]:
    hints = typing.get_type_hints(function, include_extras=True)
    found = []
    for argument in inspect.signature(function).parameters.values():
        if argument.kind is argument.KEYWORD_ONLY:
            hint = hints[argument.name]
            scope = hint.__metadata__[0] if typing.get_origin(hint) is Annotated else "shared"
            kind = hint if scope == "shared" else float
            found.append(Parameter(argument.name.rstrip("_"), kind, scope, argument.default))
    return found


def _ours(name: str) -> str:
    """The keyword of a parameter whose name is one of Python's own words."""
    return f"{name}_" if name == "lambda" else name
