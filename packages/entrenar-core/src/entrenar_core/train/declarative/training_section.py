"""The section `training`, without what the sections `data`, `optimizer` and `quantize` say."""

from typing import Any

from pydantic import Field

from entrenar_core.train.config import TrainingCourse

__all__ = ["TrainingSection"]


class TrainingSection(TrainingCourse):
    """How long the model is trained, at what course of the rate, and what becomes of it
    meanwhile."""

    label_smoothing: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="share of each target that all tokens, or all classes, have alike; not for "
        "regression",
    )

    def course(self) -> dict[str, Any]:
        """The keys that a `TrainingConfig` has too."""
        return {name: getattr(self, name) for name in TrainingCourse.model_fields}
