"""The section `merge`: what the trained model is merged with, once it is trained."""

from typing import Annotated, Any

from pydantic import BeforeValidator, Field, ValidationInfo, field_validator

from entrenar_common.errors import ConfigError
from entrenar_common.text import nearest
from entrenar_core.merge.method import Method, method_named
from entrenar_core.train.paths import FilePath, FilePaths
from entrenar_core.train.problems import of_section
from entrenar_core.train.strict import StrictModel

__all__ = ["MergeSection"]

_ALSO = {"dare": "dare_ties"}
"""Names that a method has besides its own."""
_PARAMETERS = ("density", "weight", "t", "normalize", "semantics")


def _numbers(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(float(n) if type(n) is int else n for n in value)
    return float(value) if type(value) is int else value


Numbers = Annotated[
    float | tuple[float, ...],
    BeforeValidator(_numbers, json_schema_input_type=float | list[float]),
]


class MergeSection(StrictModel):
    """The trained model is merged with others, into a folder of its own."""

    method: str = Field(
        min_length=1,
        description="method of merging, such as ties, dare_ties, linear, slerp or "
        "task_arithmetic, in any case",
    )
    density: Numbers | None = Field(
        None, description="share of the changes of a model that is kept, one number or one for each"
    )
    weight: Numbers | None = Field(
        None, description="what a model counts, one number or one for each; 1 when absent"
    )
    t: float | None = Field(
        None,
        ge=0,
        le=1,
        description="slerp: how far from the base, 0, to the trained model, 1",
    )
    normalize: bool | None = Field(None, description="whether weights are divided by their sum")
    semantics: str | None = Field(
        None, min_length=1, description="whose rules are followed: mergekit, paper or peft"
    )
    output: FilePath | None = Field(
        None, description="folder of the merged model; output.dir with -merged behind when absent"
    )
    models: FilePaths = Field(
        (),
        description="models besides the trained one, which is the first: folders, files or names "
        "on the hub",
    )
    base: FilePath | None = Field(
        None, validate_default=True, description="the model that all of them come from"
    )

    @field_validator("method")
    @classmethod
    def _known(cls, value: str) -> str:
        name = value.lower()
        try:
            return method_named(_ALSO.get(name, name)).name
        except ConfigError as error:
            raise ValueError(f"{error.message}. {error.hint}") from error

    @field_validator(*_PARAMETERS)
    @classmethod
    def _of_the_method(cls, value: Any, info: ValidationInfo) -> Any:
        name, key = info.data.get("method"), str(info.field_name)
        if value is None or name is None or key in method_named(name).parameters:
            return value
        own = [known for known in method_named(name).parameters if known in _PARAMETERS]
        near = nearest(key, own)
        guess = f"did you mean {near}? " if near else ""
        raise ValueError(f"is no parameter of {name}; {guess}it takes {', '.join(own) or 'none'}")

    @field_validator("base")
    @classmethod
    def _all_that_it_takes(cls, value: str | None, info: ValidationInfo) -> str | None:
        if "method" not in info.data or "models" not in info.data:
            return value
        method = method_named(info.data["method"])
        given = {"models": bool(info.data["models"]), "base": value is not None}
        missing = [key for key in _needed(method) if not given[key]]
        missing += [key for key in _required(method) if info.data.get(key, 0) is None]
        if missing:
            raise of_section(
                f"{method.name} needs {' and '.join((*_needed(method), *_required(method)))}: "
                f"{' and '.join(missing)} {'are' if len(missing) > 1 else 'is'} missing",
            )
        foreign = [key for key, there in given.items() if there and key not in _taken(method)]
        if foreign:
            raise of_section(f"{method.name} takes no {foreign[0]}")
        return value

    @property
    def parameters(self) -> dict[str, Any]:
        """Those of the method that are given."""
        return {key: value for key in _PARAMETERS if (value := getattr(self, key)) is not None}


def _needed(method: Method) -> tuple[str, ...]:
    """The keys that a method has to have: of one that takes two models, the other is the base."""
    if method.inputs[1] == 2:
        return ("base",)
    return ("models", "base") if method.base == "required" else ("models",)


def _required(method: Method) -> tuple[str, ...]:
    """The parameters without a default; a weight is 1."""
    found = method.parameters.values()
    return tuple(p.name for p in found if p.is_required and p.name != "weight")


def _taken(method: Method) -> tuple[str, ...]:
    if method.inputs[1] == 2:
        return ("base",)
    return ("models",) if method.base == "ignored" else ("models", "base")
