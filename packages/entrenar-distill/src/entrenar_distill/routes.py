"""Which teacher a document is learned from, by a field of its row."""

import hashlib
from collections.abc import Sequence

import numpy as np

from entrenar_common.errors import ConfigError
from entrenar_common.text import escape_controls
from entrenar_core.data.documents import TokenizedDocuments
from entrenar_core.data.row_fields import field_values
from entrenar_core.data.sources import DatasetSpec
from entrenar_distill.teacher_section import TeacherConfig


class Routes:
    """The number of the teacher, from 0, of each document, by the document's name."""

    def __init__(self, numbers: dict[str, int]):
        self._numbers = numbers

    def of(self, documents: TokenizedDocuments) -> np.ndarray:
        """The numbers (documents,) in the order of `documents`."""
        return np.array([self._numbers[name] for name in documents.names], np.int64)

    @property
    def fingerprint(self) -> str:
        """A hash of all names with their numbers."""
        lines = "\n".join(f"{number} {name}" for name, number in self._numbers.items())
        return hashlib.sha256(lines.encode()).hexdigest()


def read_routes(
    teachers: Sequence[TeacherConfig], spec: DatasetSpec, field: str, documents: TokenizedDocuments
) -> Routes:
    """The teacher of each of `documents`, which were read from `spec`, by what `field` says there.

    Raises ConfigError for a document without a value or with one that no teacher is for, and for a
    teacher of no document; and what `field_values` raises.
    """
    known = {value: n for n, teacher in enumerate(teachers) for value in teacher.route or ()}
    rest = next((n for n, teacher in enumerate(teachers) if teacher.route is None), None)
    values, numbers = field_values(spec, field), {}
    for name in documents.names:
        if name not in values:
            raise ConfigError(
                f"{name}: has no text in the field {field!a}, by which teachers are chosen",
                hint="set dataset.route_field to a field of text that every row has",
            )
        number = known.get(values[name], rest)
        if number is None:
            raise ConfigError(
                f"{name}: its {escape_controls(field)} is {values[name]!a:.80}, and no teacher is "
                "asked about that",
                hint="add it to a teacher's route, or leave one teacher without a route for all "
                "others",
            )
        numbers[name] = number
    unasked = sorted(set(range(len(teachers))) - set(numbers.values()))
    if unasked:
        raise ConfigError(
            f"teacher {unasked[0] + 1} is asked about none of the {len(numbers)} documents",
            hint=f"correct its route: it names values of the field {escape_controls(field)}",
        )
    return Routes(numbers)
