"""Problems of a configuration in plain words: the place, the key, what is wrong, what to do.

pydantic finds them; here they get their YAML line or command-line option, the nearest valid name,
and the difference between what is wrong and what only a coming version will do.
"""

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails, PydanticCustomError

from entrenar_common.errors import ConfigError, UnsupportedError
from entrenar_common.text import escape_controls, nearest
from entrenar_core.io.yaml_file import Located

__all__ = [
    "SECTION",
    "Later",
    "Problem",
    "as_error",
    "elsewhere",
    "of_section",
    "problems_of",
    "section_of",
]

# A validator that speaks about its whole section, not the one key it sits on, raises
# PydanticCustomError(SECTION, ...).
SECTION = "section"

# One that speaks about the key at another path raises what `elsewhere` makes.
ELSEWHERE = "elsewhere"

# The tags of a section that may be one or a list: pydantic puts them into paths.
ONE, SEVERAL = "(one)", "(several)"
FORMS = (ONE, SEVERAL)

_NOT_YET = "not supported yet"
_LEAVE_OUT = "leave it out: it comes with a later version"


@dataclass(frozen=True)
class Later:
    """Marks a field of one literal value: the other values of its type come with later versions."""

    def expects(self, value: Any, allowed: tuple[Any, ...]) -> bool:
        """Whether `value` is one that a later version takes where `allowed` are taken now."""
        return any(type(value) is type(one) for one in allowed)


@dataclass(frozen=True)
class Problem:
    """One thing to correct: the path of the key, where it was written, and what is wrong."""

    path: tuple[str | int, ...]
    where: str
    text: str
    hint: str | None = None
    unsupported: bool = False

    def __str__(self) -> str:
        key = ".".join(escape_controls(str(part)) for part in self.path)
        if self.where.startswith("--set ") and self.where.endswith(f" {key}"):
            key = ""  # the option names the key already
        return ": ".join(part for part in (escape_controls(self.where), key, self.text) if part)


def elsewhere(text: str, *path: str) -> PydanticCustomError:
    """What a validator raises that finds something wrong with the key at `path` of the file."""
    return PydanticCustomError(ELSEWHERE, "{text}", {"text": text, "path": path})


def of_section(text: str) -> PydanticCustomError:
    """What a validator of a key raises that finds something wrong with the key's section."""
    return PydanticCustomError(SECTION, "{text}", {"text": text})


def problems_of(error: ValidationError, model: type[BaseModel], located: Located) -> list[Problem]:
    """Every problem in `error`, found while `model` validated the data of `located`."""
    items = error.errors(include_url=False)
    return [_problem(item, model, located) for item in items if not _follows(item, items)]


def as_error(located: Located, problems: Sequence[Problem]) -> ConfigError | UnsupportedError:
    """One error for all `problems`; with a single one, the message itself says what it is."""
    kind = UnsupportedError if all(p.unsupported for p in problems) else ConfigError
    name = located.name
    if len(problems) == 1:
        (problem,) = problems
        from_file = not problem.where.startswith("--")
        message = f"{name}: {problem}" if from_file else str(problem)
        return kind(message, hint=problem.hint or f"correct {name}")
    ordered = sorted(problems, key=lambda problem: _line_number(problem.where))
    hint = "correct these; nothing has been started"
    if kind is UnsupportedError:
        hint = "leave these out: they come with a later version"
    elif all(problem.hint == problems[0].hint for problem in problems):
        hint = problems[0].hint or hint
    return kind(f"{name}: {len(problems)} problems", details=[str(p) for p in ordered], hint=hint)


def section_of(model: type[BaseModel], key: str) -> type[BaseModel] | None:
    """The model of the section `key` of `model`; None when there is none or it is a value."""
    field = model.model_fields.get(key)
    if field is None:
        return None
    for kind in _kinds(field.annotation):
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            return kind
    return None


def _kinds(annotation: Any) -> Iterator[Any]:
    """A type, and those that it is a choice of."""
    yield annotation
    for part in get_args(annotation):
        yield get_args(part)[0] if get_origin(part) is Annotated else part


def _follows(item: ErrorDetails, items: Sequence[ErrorDetails]) -> bool:
    """Whether a list is called too short only because its items are wrong."""
    path = item["loc"]
    return item["type"] == "too_short" and any(
        other["loc"][: len(path)] == path for other in items if other is not item
    )


def _line_number(where: str) -> float:
    return float(where.removeprefix("line ")) if where.startswith("line ") else math.inf


def _problem(item: ErrorDetails, model: type[BaseModel], located: Located) -> Problem:
    path = tuple(part for part in item["loc"] if part not in FORMS)
    if item["type"] == SECTION:
        path = path[:-1]
    if item["type"] == ELSEWHERE:
        path = tuple(item.get("ctx", {})["path"])
    where = located.where(path)
    owner, field = _owner(model, path)
    if item["type"] == "extra_forbidden" and owner is not None:
        return _unknown_key(path, where, owner, model)
    if item["type"] == "literal_error" and field is not None:
        later = next((mark for mark in field.metadata if isinstance(mark, Later)), None)
        allowed = get_args(field.annotation)
        if later and later.expects(item["input"], allowed):
            text = f"{_show(item['input'])} is {_NOT_YET}, only {_listed(allowed)} is"
            return Problem(path, where, text, _LEAVE_OUT, unsupported=True)
    return Problem(path, where, _text(item), _description(path, owner, field))


def _description(
    path: tuple[str | int, ...], owner: type[BaseModel] | None, field: FieldInfo | None
) -> str | None:
    if owner is None or field is None:
        return None
    section = section_of(owner, str(path[-1]))
    text = section.__doc__.splitlines()[0] if section and section.__doc__ else field.description
    return f"{path[-1]}: {text}" if text else None


def _owner(
    model: type[BaseModel], path: tuple[str | int, ...]
) -> tuple[type[BaseModel] | None, FieldInfo | None]:
    """The section that holds the key at `path` and the key's field, as far as there are such."""
    owner: type[BaseModel] | None = model
    for part in path[:-1]:
        if not isinstance(part, int):  # an item of a list is of the list's section
            owner = section_of(owner, part) if owner else None
    field = owner.model_fields.get(str(path[-1])) if owner and path else None
    return owner, field


def _unknown_key(
    path: tuple[str | int, ...], where: str, owner: type[BaseModel], model: type[BaseModel]
) -> Problem:
    name = str(path[-1])
    if name in getattr(owner, "later_keys", ()):
        return Problem(path, where, _NOT_YET, _LEAVE_OUT, unsupported=True)
    known = list(owner.model_fields)
    guess = nearest(name, known) or _elsewhere(name, model)
    text = f"unknown key; did you mean {guess}?" if guess else "unknown key"
    section = ".".join(str(part) for part in path[:-1]) or "the file"
    return Problem(path, where, text, f"the keys of {section} are {', '.join(known)}")


def _elsewhere(name: str, model: type[BaseModel]) -> str | None:
    return next((path for path in _keys(model) if path.rpartition(".")[2] == name), None)


def _keys(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    for name in model.model_fields:
        yield prefix + name
        section = section_of(model, name)
        if section is not None:
            yield from _keys(section, f"{prefix}{name}.")


_TEXTS = {
    "missing": "is missing",
    "extra_forbidden": "unknown key",
    "value_error": "{error}",
    "string_too_short": "must not be empty",
    "too_short": "must have at least {min_length} item",
    "int_type": "must be a whole number, not {input}",
    "float_type": "must be a number, not {input}",
    "string_type": "must be text, not {input}",
    "bool_type": "must be true or false, not {input}",
    "tuple_type": "must be a list, not {input}",
    "list_type": "must be a list, not {input}",
    "dict_type": "must be a section of keys, not {input}",
    "model_type": "must be a section of keys, not {input}",
    "finite_number": "must be a finite number, not {input}",
    "greater_than": "must be greater than {gt}, not {input}",
    "greater_than_equal": "must be at least {ge}, not {input}",
    "less_than": "must be less than {lt}, not {input}",
    "less_than_equal": "must be at most {le}, not {input}",
    "literal_error": "must be {expected}, not {input}",
}


def _text(item: ErrorDetails) -> str:
    template = _TEXTS.get(item["type"])
    if template is None:
        return escape_controls(item["msg"])
    context = {name: _number(value) for name, value in item.get("ctx", {}).items()}
    return template.format(input=_show(item["input"]), **context) + _guess(item)


def _guess(item: ErrorDetails) -> str:
    """The nearest of several values that can be chosen from, for one that is misspelt."""
    choices = re.findall(r"'([^']*)'", item.get("ctx", {}).get("expected", ""))
    if item["type"] != "literal_error" or not isinstance(item["input"], str) or len(choices) < 2:
        return ""
    guess = nearest(item["input"], choices)
    return f"; did you mean {guess}?" if guess else ""


def _number(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _show(value: Any) -> str:
    """`value` as it looks in YAML, shortened."""
    if isinstance(value, dict):
        return "a section of keys"
    if isinstance(value, list | tuple):
        return "a list"
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    text = f"'{value}'" if isinstance(value, str) else repr(value)
    return escape_controls(text if len(text) <= 60 else f"{text[:57]}...")


def _listed(values: Sequence[Any]) -> str:
    return " or ".join(str(_show(value)) for value in values)
