"""The section `teacher`: who is learned from, one model or a list of them."""

from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Discriminator,
    Field,
    Tag,
    field_validator,
)

from entrenar_common.errors import ConfigError
from entrenar_core.distill.several_teachers import check_weights
from entrenar_core.train.paths import FilePath
from entrenar_core.train.problems import ONE, SEVERAL
from entrenar_core.train.quantization import format_name
from entrenar_core.train.strict import StrictModel


def _values(value: Any) -> Any:
    return (
        tuple(value) if isinstance(value, list) else (value,) if isinstance(value, str) else value
    )


Values = Annotated[
    tuple[Annotated[str, Field(min_length=1)], ...],
    Field(min_length=1),
    BeforeValidator(_values, json_schema_input_type=str | list[str]),
]


class TeacherConfig(StrictModel):
    """The model that is learned from, or a list of several."""

    model_id: FilePath = Field(
        description="the teacher: a Hugging Face model folder, a GGUF or APR file, or a model on "
        "the hub (org/name)"
    )
    revision: str | None = Field(
        None, min_length=1, description="branch, tag or commit of a model on the hub"
    )
    cache: FilePath | None = Field(
        None,
        description="folder of the teacher's predictions, made by entrenar-distill cache; the "
        "teacher itself is then loaded only to be measured",
    )
    format: Literal["auto", "safetensors", "pytorch", "gguf", "apr"] = Field(
        "auto", description="file format of the weights; auto: what there is"
    )
    quantize: str | None = Field(
        None,
        description="format that the matrices are held in in memory, such as q8_0 or nf4; when "
        "absent, each as its file has it",
    )
    weight: float | None = Field(
        None,
        gt=0,
        le=1,
        description="share of this teacher in the mean of several teachers' probabilities; equal "
        "shares when no teacher has one",
    )
    route: Values | None = Field(
        None,
        description="values of dataset.route_field, one or a list, of the documents that this "
        "teacher is asked about; a teacher without it is asked about all others",
    )

    @field_validator("quantize")
    @classmethod
    def _known_format(cls, value: str | None) -> str | None:
        return None if value is None else format_name(value)


def _checked(teachers: Any) -> Any:
    """Weights and routes, of which only several teachers have any."""
    found = teachers if isinstance(teachers, tuple) else (teachers,)
    routed = [teacher for teacher in found if teacher.route is not None]
    weighted = [teacher for teacher in found if teacher.weight is not None]
    if (routed or weighted) and len(found) == 1:
        raise ValueError("weight and route go with several teachers")
    if len(found) > 1 and any(teacher.cache for teacher in found):
        raise ValueError("cache goes with one teacher")
    if routed and weighted:
        raise ValueError("teachers have weights or routes, not both")
    if routed:
        _check_routes(found)
    if weighted:
        if len(weighted) < len(found):
            raise ValueError(
                f"{len(weighted)} of {len(found)} teachers have a weight: give all of them one, or "
                "none"
            )
        try:
            check_weights([teacher.weight for teacher in found])
        except ConfigError as error:
            raise ValueError(error.message) from error
    return teachers


def _check_routes(teachers: tuple[TeacherConfig, ...]) -> None:
    rest = sum(teacher.route is None for teacher in teachers)
    if rest > 1:
        raise ValueError(f"{rest} teachers have no route: one at most is asked about the rest")
    values = [value for teacher in teachers for value in teacher.route or ()]
    twice = sorted({value for value in values if values.count(value) > 1})
    if twice:
        raise ValueError(f"{twice[0]!a} is a route to two teachers")


def _form(value: Any) -> str:
    return SEVERAL if isinstance(value, list | tuple) else ONE


def _list(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


Several = Annotated[tuple[TeacherConfig, ...], Field(min_length=1)]
Teachers = Annotated[
    Annotated[TeacherConfig, Tag(ONE)] | Annotated[Several, Tag(SEVERAL)],
    Discriminator(_form),
    BeforeValidator(_list, json_schema_input_type=TeacherConfig | list[TeacherConfig]),
    AfterValidator(_checked),
]
"""One teacher, or several."""
