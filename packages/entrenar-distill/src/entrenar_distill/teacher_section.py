"""The section `teacher`: who is learned from."""

from typing import Annotated, Literal

from pydantic import Field

from entrenar_core.train.config import Later
from entrenar_core.train.strict import StrictModel
from entrenar_distill.paths import FilePath


class TeacherConfig(StrictModel):
    """The model that is learned from."""

    model_id: FilePath = Field(
        description="the teacher: a Hugging Face model folder, or a model on the hub (org/name)"
    )
    revision: str | None = Field(
        None, min_length=1, description="branch, tag or commit of a model on the hub"
    )
    cache: FilePath | None = Field(
        None,
        description="folder of the teacher's predictions, made by entrenar-distill cache; the "
        "teacher itself is then loaded only to be measured",
    )
    format: Annotated[Literal["safetensors"], Later()] = Field(
        "safetensors", description="file format of the weights"
    )
