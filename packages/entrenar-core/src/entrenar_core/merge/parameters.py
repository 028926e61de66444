"""Reading the `parameters:` of a config: each value of its parameter's type and range."""

import math
import typing
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from entrenar_common.text import escape_controls, nearest
from entrenar_core.io.yaml_file import KeyPath
from entrenar_core.merge.elected import SEMANTICS
from entrenar_core.merge.method import Method, Parameter, all_methods
from entrenar_core.merge.problems import Problems, shown
from entrenar_core.merge.settings import Choice, Scalar, Setting, Settings

WITHOUT_EFFECT = ("int8_mask",)
"""What mergekit's methods know and this library needs not: masks take no memory here."""

_TRUE = ("true", "yes", "on", "y", "t", "1")
_FALSE = ("false", "no", "off", "n", "f", "0")


@dataclass(frozen=True)
class Range:
    """The numbers from `least` to `most`; `open` leaves `least` out."""

    least: float
    most: float = math.inf
    open: bool = False

    def __contains__(self, value: float) -> bool:
        return (self.least < value if self.open else self.least <= value) and value <= self.most

    def __str__(self) -> str:
        above = f"greater than {self.least:g}" if self.open else f"at least {self.least:g}"
        return above if self.most == math.inf else f"{above} and at most {self.most:g}"


RANGES = {
    "density": Range(0, 1, open=True),
    "gamma": Range(0, 1),
    "epsilon": Range(0, 1),
    "select_topk": Range(0, 1, open=True),
    "max_iter": Range(1),
    "tol": Range(0),
    "eps": Range(0, open=True),
}
"""What numbers make sense for a parameter, whichever method has it; any for one that is not here.
Weights, t, lambda and scale may go beyond what they are used for, and do so on purpose."""


CHOICES = {"semantics": SEMANTICS}
"""The texts that a parameter may be."""


@dataclass
class ParameterReader:
    """Reads the parameters of `method`; `notes` says which of those given have no effect."""

    method: Method
    problems: Problems
    notes: list[str] = field(default_factory=list)

    def of_all(self, value: Any, path: KeyPath) -> Settings:
        """What is given for all models of a slice, a module or the config."""
        return self._settings(value, path, lambda _: None)

    def of_model(self, value: Any, path: KeyPath, *, is_base: bool) -> Settings:
        """What is given for one model."""

        def why(parameter: Parameter) -> str | None:
            if parameter.scope == "shared":
                return (
                    "is one for all models: given for one it has no effect; it belongs under the "
                    "parameters of the slice or the config"
                )
            if is_base and parameter.scope == "models":
                return f"is not used of the base in {self.method.name} and has no effect"
            return None

        return self._settings(value, path, why)

    def _settings(
        self, value: Any, path: KeyPath, without_effect: Callable[[Parameter], str | None]
    ) -> Settings:
        if value is None:
            return {}
        if not isinstance(value, dict):
            self.problems.add(path, f"must be a section of parameters, not {shown(value)}")
            return {}
        found = {}
        for name, given in value.items():
            parameter = self.method.parameters.get(name)
            place = (*path, name)
            if parameter is None:
                self._foreign(name, place)
            elif reason := without_effect(parameter):
                self.note(place, f"{name} {reason}")
            else:
                found[name] = self._setting(given, place, parameter)
        return found

    def note(self, path: KeyPath, text: str) -> None:
        """Something in the config that changes nothing."""
        where = self.problems.located.where(path)
        self.notes.append(escape_controls(f"{where}: {text}" if where else text))

    def _foreign(self, name: str, path: KeyPath) -> None:
        """A parameter of other methods is left over from one; no method's is a mistake."""
        if name in WITHOUT_EFFECT:
            self.note(path, f"{name} has no effect: masks are not kept")
            return
        if any(name in method.parameters for method in all_methods().values()):
            self.note(path, f"{name} is no parameter of {self.method.name} and has no effect")
            return
        own = self.method.parameters
        everyone = {known for method in all_methods().values() for known in method.parameters}
        close = nearest(name, own) or nearest(name, everyone)
        self.problems.add(
            path,
            "no method has a parameter of this name"
            + (f"; did you mean {close}?" if close else ""),
            hint=f"{self.method.name} has {', '.join(own) or 'no parameters'}",
        )

    def _setting(self, value: Any, path: KeyPath, parameter: Parameter) -> Setting:
        if isinstance(value, list) and any(isinstance(item, dict) for item in value):
            choices = [self._choice(item, (*path, i), parameter) for i, item in enumerate(value)]
            return tuple(choice for choice in choices if choice)
        if isinstance(value, dict):
            choice = self._choice(value, path, parameter)
            return (choice,) if choice else ()
        values = self._values(value, path, parameter)
        return (Choice(values),) if values else ()

    def _choice(self, value: Any, path: KeyPath, parameter: Parameter) -> Choice | None:
        """One of several by filter."""
        if not isinstance(value, dict):
            self.problems.add(
                path,
                f"must have a value and a filter as the others do, not {shown(value)}",
                hint="write - value: ... for what no filter before it takes",
            )
            return None
        keys = self.problems.section(value, path, ("filter", "value"))
        chosen = keys.get("filter")
        if chosen is not None and not isinstance(chosen, str):
            self.problems.add(
                (*path, "filter"), f"must be text, not {shown(chosen)}", hint="put quotes around it"
            )
        if "value" not in keys:
            self.problems.add((*path, "value"), "is missing")
            return None
        values = self._values(keys["value"], (*path, "value"), parameter)
        return Choice(values, chosen) if values else None

    def _values(self, value: Any, path: KeyPath, parameter: Parameter) -> tuple[Scalar, ...]:
        if not isinstance(value, list):
            found = [self._scalar(value, path, parameter)]
        elif not value:
            self.problems.add(path, "must have a value, and the list is empty")
            return ()
        else:
            found = [self._scalar(one, (*path, i), parameter) for i, one in enumerate(value)]
        return tuple(scalar for scalar in found if scalar is not None)

    def _scalar(self, value: Any, path: KeyPath, parameter: Parameter) -> Scalar | None:
        kind = _plain(parameter.kind)
        found, due = _READERS[kind](value)
        allowed = RANGES.get(parameter.name)
        if found is not None and allowed is not None and found not in allowed:
            found, due = None, str(allowed)
        choices = CHOICES.get(parameter.name)
        if found is not None and choices is not None and found not in choices:
            found, due = None, f"one of {', '.join(choices)}"
        if found is None:
            self.problems.add(path, f"must be {due}, not {shown(value)}")
        return found


def _plain(kind: Any) -> type:
    """The type of a value that is given, of one that may be left at None."""
    kinds = [one for one in typing.get_args(kind) if one is not type(None)]
    return kinds[0] if kinds else kind


def _float(value: Any) -> tuple[float | None, str]:
    due = "a finite number"
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None, due
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None, due
    return (number if math.isfinite(number) else None), due


def _int(value: Any) -> tuple[int | None, str]:
    number, _ = _float(value)
    whole = number is not None and number.is_integer()
    return (int(number) if number is not None and whole else None), "a whole number"


def _bool(value: Any) -> tuple[bool | None, str]:
    """Flags as YAML 1.1 writes them too, for configs were written for a reader of it."""
    text = shown(value).strip("'").lower()
    if isinstance(value, float) and value.is_integer():
        text = str(int(value))
    found = True if text in _TRUE else False if text in _FALSE else None
    return found, "true or false"


def _str(value: Any) -> tuple[str | None, str]:
    return (value if isinstance(value, str) else None), "text"


_READERS: dict[type, Callable[[Any], tuple[Any, str]]] = {
    float: _float,
    int: _int,
    bool: _bool,
    str: _str,
}
