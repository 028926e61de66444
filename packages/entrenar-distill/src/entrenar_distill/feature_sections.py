"""The sections `progressive` and `attention` of a configuration: what is inside the teacher that
the student learns from besides its predictions.

What the losses are is in `entrenar_core.distill.features`.
"""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Discriminator, Field, Tag, ValidationInfo, field_validator

from entrenar_core.train.strict import StrictModel

PROJECTED = ("mse", "cosine", "pkd")
"""Losses of hidden states that can compare different widths by a projection."""

_MAPPING = (
    "layers of the student and of the teacher that are compared: a rule, or pairs counted from 0 "
    "such as [[0, 2], [1, 5]], or {student: 0, teacher: 2, schedule: ...}. uniform: evenly spread; "
    "last: the teacher's last layers; skip: every so manyth; final: both last layers alone"
)


class ScheduleSection(StrictModel):
    """When a term of the loss takes part, in optimizer steps counted from 0."""

    from_step: int = Field(0, ge=0, description="first step with the term")
    until_step: int | None = Field(
        None, ge=1, description="first step without it again; to the end when absent"
    )
    ramp_steps: int = Field(
        0, ge=0, description="steps in which the weight rises linearly to its full size"
    )

    @field_validator("until_step")
    @classmethod
    def _after_the_start(cls, value: int | None, info: ValidationInfo) -> int | None:
        if value is not None and value <= info.data.get("from_step", 0):
            raise ValueError("must be after from_step")
        return value


class PairSection(StrictModel):
    """A layer of the student that learns from a layer of the teacher, both counted from 0."""

    student: int = Field(ge=0, description="the student's layer")
    teacher: int = Field(ge=0, description="the teacher's layer")
    schedule: ScheduleSection | None = Field(
        None, description="when this pair takes part; as the term does when absent"
    )


def _pairs(value: Any) -> Any:
    """Lists of two as sections."""
    if not isinstance(value, list | tuple):
        return value
    return tuple(
        {"student": pair[0], "teacher": pair[1]}
        if isinstance(pair, list | tuple) and len(pair) == 2
        else pair
        for pair in value
    )


def _form(value: Any) -> str:
    return "rule" if isinstance(value, str) else "pairs"


Rule = Literal["uniform", "last", "skip", "final"]
Pairs = Annotated[tuple[PairSection, ...], Field(min_length=1)]
LayerMapping = Annotated[
    Annotated[Rule, Tag("rule")] | Annotated[Pairs, Tag("pairs")],
    Discriminator(_form),
    BeforeValidator(
        _pairs,
        json_schema_input_type=Rule | list[list[Annotated[int, Field(ge=0)]] | PairSection],
    ),
]


def _for_skip_only(value: int | None, mapping: Any) -> int | None:
    if value is not None and mapping != "skip":
        raise ValueError("goes with the layer mapping skip")
    return value


class ProgressiveSection(StrictModel):
    """Hidden states of the student's layers are drawn to those of the teacher's."""

    layer_mapping: LayerMapping = Field("uniform", description=_MAPPING)
    every: int | None = Field(
        None, ge=1, description="k of the layer mapping skip, which is 2 when absent"
    )
    loss: Literal["mse", "cosine", "pkd", "similarity", "rkd_distance", "rkd_angle"] = Field(
        "mse",
        description="how hidden states are compared: token by token (mse; cosine; pkd, mse of unit "
        "vectors) or by how the tokens of a sequence lie to each other (similarity, rkd_distance, "
        "rkd_angle)",
    )
    projection: Literal["learned", "identity"] | None = Field(
        None,
        description="what brings the student's states to the teacher's width in mse, cosine and "
        "pkd: learned (when absent), trained and saved beside the student and not exported; "
        "identity, for equal widths",
    )
    embeddings: bool = Field(False, description="compare the embeddings too, as one pair more")
    weight: float = Field(
        1.0, gt=0, description="what the mean over the pairs is multiplied by in the loss"
    )
    schedule: ScheduleSection = Field(
        default_factory=lambda: ScheduleSection.model_validate({}),
        description="when the term takes part",
    )

    @property
    def part(self) -> str:
        """What the term is called in logs and reports."""
        return f"hidden_{self.loss}"

    @field_validator("every")
    @classmethod
    def _of_the_rule(cls, value: int | None, info: ValidationInfo) -> int | None:
        return _for_skip_only(value, info.data.get("layer_mapping", "skip"))

    @field_validator("projection")
    @classmethod
    def _of_the_loss(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is not None and info.data.get("loss", "mse") not in PROJECTED:
            raise ValueError(f"goes with the losses {', '.join(PROJECTED)}")
        return value


class AttentionSection(StrictModel):
    """What the student's layers attend to is drawn to what the teacher's do."""

    kind: Literal["transfer", "tinybert", "minilm"] = Field(
        "transfer",
        description="what is compared: how large the hidden state of each token is (transfer), "
        "scores before the softmax (tinybert, equal numbers of heads), or relations among queries, "
        "keys and values (minilm)",
    )
    form: Literal["paper", "code"] | None = Field(
        None,
        description="how transfer compares maps: by their distance, as in the paper (when absent), "
        "or by its square per token, as in the authors' code",
    )
    heads: int | None = Field(
        None, ge=1, description="relation heads of minilm; the teacher's heads when absent"
    )
    layers: LayerMapping | None = Field(
        None, description=f"{_MAPPING}. When absent final for minilm, else uniform"
    )
    every: int | None = Field(None, ge=1, description="k of skip, which is 2 when absent")
    weight: float = Field(
        1.0, gt=0, description="what the mean over the pairs is multiplied by in the loss"
    )
    schedule: ScheduleSection = Field(
        default_factory=lambda: ScheduleSection.model_validate({}),
        description="when the term takes part",
    )

    @property
    def part(self) -> str:
        """What the term is called in logs and reports."""
        return f"attention_{self.kind}"

    @field_validator("form")
    @classmethod
    def _of_transfer(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is not None and info.data.get("kind", "transfer") != "transfer":
            raise ValueError("goes with kind: transfer")
        return value

    @field_validator("heads")
    @classmethod
    def _of_minilm(cls, value: int | None, info: ValidationInfo) -> int | None:
        if value is not None and info.data.get("kind", "minilm") != "minilm":
            raise ValueError("goes with kind: minilm")
        return value

    @field_validator("every")
    @classmethod
    def _of_the_rule(cls, value: int | None, info: ValidationInfo) -> int | None:
        return _for_skip_only(value, info.data.get("layers", "skip"))
