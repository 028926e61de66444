"""The classes of a classifier."""

from typing import Any

from entrenar_common.errors import UnsupportedError
from entrenar_core.models.classes import labels_of

__all__ = ["single_labels"]


def single_labels(model: Any, owner: str) -> tuple[str, ...]:
    """The names of the classes of `model`, of which each text has one. Raises UnsupportedError for
    another kind of classifier, which is called `owner`."""
    labels = labels_of(model)
    problem = getattr(model.config, "problem_type", None)  # decoders have none
    if len(labels) < 2 or problem not in (None, "single_label_classification"):
        raise UnsupportedError(
            f"{owner} has {len(labels)} outputs for {problem or 'regression'}: not one class "
            "for each text",
            hint="give a model of single_label_classification",
        )
    return labels
