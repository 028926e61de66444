"""Which of some classes the labels of a data set are."""

from collections.abc import Sequence

import numpy as np

from entrenar_common.errors import ConfigError
from entrenar_common.text import escape_controls
from entrenar_core.data.readers import Value
from entrenar_core.data.texts import Int64

__all__ = ["class_numbers", "listed"]

_SHOWN = 10


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
