"""The classes of a model that classifies whole texts."""

from typing import Any

from entrenar_core.models.base import from_config
from entrenar_core.models.config_keys import DEFAULT_LABELS, label_keys

__all__ = ["labels_of", "with_labels"]


def labels_of(model: Any) -> tuple[str, ...]:
    """The names of a classifier's classes."""
    return tuple(model.config.labels or DEFAULT_LABELS)


def with_labels(model: Any, labels: tuple[str, ...], *, head: str, seed: int) -> Any:
    """`model` with a new head for `labels`, drawn from `seed`, in place of one that was drawn."""
    keys = {**model.config.to_hf(), "num_labels": None, **label_keys(labels)}
    keys = {key: value for key, value in keys.items() if value is not None}
    made = from_config(keys, seed=seed, head=head)
    made.follow(model)
    drawn, weights = set(model.initialised), model.named_parameters()
    for name, parameter in made.named_parameters().items():
        if name not in drawn:
            parameter.data = weights[name].data
    made.initialised = model.initialised
    return made
