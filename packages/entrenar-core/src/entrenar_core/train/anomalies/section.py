"""The section of a configuration about noticing what goes wrong."""

from typing import Literal

from pydantic import Field

from entrenar_core.train.strict import StrictModel

__all__ = ["AnomaliesSection", "Kind"]

Kind = Literal["data-stall", "throttling", "divergence", "memory-growth"]


class AnomaliesSection(StrictModel):
    """What is noticed while a model is trained, and from which difference on."""

    window: int = Field(
        200, ge=50, le=10_000, description="steps before a step that say what is usual"
    )
    threshold: float = Field(
        6.0,
        ge=3,
        description="how far above its usual value a figure is that is off, in robust standard "
        "deviations",
    )
    clusters: int = Field(
        4, ge=1, le=16, description="kinds of steps, such as long and short ones, at most"
    )
    ignore: list[Kind] = Field([], description="kinds of anomalies that are not noticed")
