"""The classes of a classifier, and which of them the labels of a data set are."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from entrenar_common.errors import ConfigError, UnsupportedError
from entrenar_common.text import escape_controls
from entrenar_core.data.readers import Value
from entrenar_core.data.texts import Int64
from entrenar_core.models.classes import labels_of

__all__ = ["class_numbers", "listed", "single_labels"]

_SHOWN = 10


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


def class_numbers(
    values: Sequence[Value], *, labels: Sequence[str], where: str, owner: str
) -> Int64:
    """The number of each value among `labels`: its name, or the number itself, also as text.

    Where the labels have no names of their own (LABEL_0, …) and the values are as many different
    texts, they are the labels in alphabetical order. Raises ConfigError for a value that is no
    label; `where` says what holds the values, and `owner` whose labels they are.
    """
    known = {name: i for i, name in enumerate(labels)}
    numbers = {str(i): i for i in range(len(labels))}
    given = sorted({str(value) for value in values})
    nameless = list(labels) == [f"LABEL_{i}" for i in range(len(labels))]
    if nameless and len(given) == len(labels) and not set(given) & {*known, *numbers}:
        known = {name: i for i, name in enumerate(given)}
    strange = [value for value in given if value not in known and value not in numbers]
    if strange:
        raise ConfigError(
            f"{where}: {escape_controls(strange[0])!a} is no class of {owner}",
            hint=f"its classes are {listed(labels)}, or their numbers from 0",
        )
    both = {**numbers, **known}
    return np.array([both[str(value)] for value in values], np.int64)


def listed(labels: Sequence[str]) -> str:
    """The first few of the labels, and how many there are beside them."""
    more = f" and {len(labels) - _SHOWN} more" if len(labels) > _SHOWN else ""
    return ", ".join(map(escape_controls, labels[:_SHOWN])) + more
