"""Whether a training may go on from a checkpoint: one that is its own, of the same settings."""

from collections.abc import Mapping
from typing import Any

from entrenar_common.errors import CheckpointError
from entrenar_core.train.checkpoint import Checkpoint
from entrenar_core.train.config import TrainingConfig
from entrenar_core.train.rows import Rows

__all__ = ["check_continues", "settings_of"]

_STATE = {
    "phase",
    "optimizer_steps",
    "skipped_steps",
    "skipped_total",
    "tokens",
    "seconds",
    "held_out_loss",
}


def settings_of(config: TrainingConfig, batches: Rows) -> dict[str, Any]:
    """What decides the steps of a training and a checkpoint keeps, as JSON has it."""
    settings = config.model_dump(mode="json")
    return {**settings, "micro-batches of an epoch": batches.steps_per_epoch}


def check_continues(checkpoint: Checkpoint, *, phase: str, settings: Mapping[str, Any]) -> None:
    """Raise CheckpointError where `checkpoint` is of another phase or, as a list of differences, of
    a training with other settings. One of an older version has none."""
    state = checkpoint.state
    if state.get("phase") != phase:
        raise CheckpointError(
            f"{checkpoint.path}: is of the phase {state.get('phase')!r}, not {phase!r}",
            hint="give a checkpoint of the phase that is to be continued",
        )
    if missing := _STATE - state.keys():
        raise CheckpointError(
            f"{checkpoint.path}: its state lacks {', '.join(sorted(missing))}",
            hint="use the version of entrenar that wrote it",
        )
    before = state.get("settings", settings)
    differences = [
        f"{name}: was {before[name]}, is {settings[name]}"
        for name in sorted(before.keys() & settings.keys())  # a version may have more of them
        if before[name] != settings[name]
    ]
    if differences:
        raise CheckpointError(
            f"{checkpoint.path}: is of a training that differs from this one",
            details=differences,
            hint="go on with the settings and the data that it was started with",
        )
