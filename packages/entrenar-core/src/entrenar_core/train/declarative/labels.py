"""Labels of texts as numbers: of classes, and numbers themselves."""

import math
from collections.abc import Sequence

import numpy as np

from entrenar_common.errors import ConfigError
from entrenar_common.text import escape_controls
from entrenar_core.data.class_numbers import class_numbers, listed
from entrenar_core.data.readers import Value
from entrenar_core.data.texts import Labels

__all__ = ["Classes", "numbers"]


class Classes:
    """Numbers classes: those of a model by their `names` or their numbers, as `class_numbers` does.
    Without names they are what comes in the first texts that are numbered: whole numbers in their
    order, other values as texts in theirs."""

    def __init__(self, field: str, names: tuple[str, ...] = ()):
        self.field, self.names, self._of_model = field, names, bool(names)

    def __call__(self, values: Sequence[Value]) -> Labels:
        """The number of each value (N,). Raises ConfigError for one that is none of the classes,
        and where all texts are of one class."""
        where = f"data.label_field {self.field!a}"
        if self._of_model:
            return class_numbers(values, labels=self.names, where=where, owner="the model")
        if not self.names:
            self.names = self._found(values)
        numbers = {name: i for i, name in enumerate(self.names)}
        strange = next((value for value in values if str(value) not in numbers), None)
        if strange is not None:
            raise ConfigError(
                f"{where}: {escape_controls(str(strange))!a} is none of the {len(self.names)} "
                "classes",
                hint=f"they are {listed(self.names)}: those of the training texts",
            )
        return np.array([numbers[str(value)] for value in values], np.int64)

    def _found(self, values: Sequence[Value]) -> tuple[str, ...]:
        different = set(values)
        if len(different) < 2:
            raise ConfigError(
                f"data.label_field {self.field!a}: all training texts are of one class",
                hint="name the field with the classes, or give texts of others too",
            )
        if all(type(value) is int for value in different):
            return tuple(map(str, sorted(different)))  # pyright: ignore[reportArgumentType]
        return tuple(sorted({str(value) for value in different}))


def numbers(values: Sequence[Value], *, field: str) -> Labels:
    """`values` as numbers (N,), float64, texts as they are written. Raises ConfigError for one that
    is none, or not finite."""
    found = np.empty(len(values), np.float64)
    for index, value in enumerate(values):
        try:
            found[index] = math.nan if isinstance(value, bool) else float(value)
        except ValueError:
            found[index] = math.nan
        if not math.isfinite(found[index]):
            raise ConfigError(
                f"data.label_field {field!a}: {escape_controls(str(value))!a} is no finite number",
                hint="name the field with the numbers, or say task: sequence-classification",
            )
    return found
