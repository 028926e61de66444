"""What a training takes its batches from."""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from entrenar_common.errors import ConfigError
from entrenar_core.train.config import TrainingConfig

__all__ = ["Rows", "described", "total_steps"]

_LISTED = 8


class Rows(Protocol):
    """Training batches, such as `Batches`, `MaskedBatches` or `TextBatches`, of a kind that the
    objective knows."""

    steps_per_epoch: int

    def batch(self, position: int) -> Any:
        """The batch at `position`, counted from 0 across epochs, always the same one. It has
        `row_ids`, `targets`, which a mean loss divides by, and `tokens`, for the log."""
        ...

    def names(self, row_ids: np.ndarray) -> list[str]:
        """What the rows are made of, for people."""
        ...


def total_steps(config: TrainingConfig, batches: Rows) -> int:
    """The optimizer steps that `config` asks for: max_steps, or whole epochs of `batches`."""
    if config.max_steps is not None:
        return config.max_steps
    steps = (config.epochs or 1) * batches.steps_per_epoch // config.gradient_accumulation
    if steps == 0:
        raise ConfigError(
            f"{batches.steps_per_epoch} micro-batches an epoch are fewer than "
            f"gradient_accumulation {config.gradient_accumulation}: not one optimizer step",
            hint="use more data, a smaller batch or less accumulation",
        )
    return steps


def described(batches: Rows, micro_batches: Sequence[Any]) -> str:
    """The rows of a step and the documents that they are from, for people."""
    ids = np.concatenate([batch.row_ids for batch in micro_batches])
    return f"rows {_listed(ids.tolist())} of the dataset, from {_listed(batches.names(ids))}"


def _listed(values: Sequence[Any]) -> str:
    more = f" and {len(values) - _LISTED} more" if len(values) > _LISTED else ""
    return ", ".join(map(str, values[:_LISTED])) + more
