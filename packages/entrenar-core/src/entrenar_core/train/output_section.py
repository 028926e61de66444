"""The section `output`: where a run is written, and what is kept of it."""

from pydantic import Field

from entrenar_core.train.paths import FilePath
from entrenar_core.train.strict import StrictModel

__all__ = ["OutputFolder"]


class OutputFolder(StrictModel):
    """Where the model and the report are written."""

    dir: FilePath = Field("trained-model", description="folder of the model and the report")
    checkpoint_every: int = Field(500, ge=1, description="optimizer steps between checkpoints")
    keep_checkpoints: int = Field(2, ge=1, description="checkpoints to keep, beside the best one")
