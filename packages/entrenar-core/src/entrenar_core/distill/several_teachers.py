"""Learning from several teachers: from all of them at once, or from one for each document."""

from collections.abc import Sequence

import numpy as np

from entrenar_common.errors import ConfigError
from entrenar_core.autograd.ops.expected import Expected
from entrenar_core.autograd.ops.mixed import Mixed
from entrenar_core.autograd.ops.routed import Routed
from entrenar_core.data.batches import IGNORED, Batch
from entrenar_core.distill.teacher import LiveTeacher, Teacher

TOLERANCE = 1e-6
"""How far the sum of weights may be from 1."""


def check_weights(weights: Sequence[float]) -> None:
    """Raise ConfigError unless all weights are positive and their sum is 1."""
    if not all(weight > 0 for weight in weights) or abs(sum(weights) - 1) > TOLERANCE:
        raise ConfigError(
            f"the teachers' weights {', '.join(f'{weight:g}' for weight in weights)} have the sum "
            f"{sum(weights):g}, and must all be positive with the sum 1",
            hint="give each teacher its share, such as 0.7 and 0.3; without any, shares are equal",
        )


class MixedTeacher:
    """Models that all read every batch, and whose probabilities are averaged: p = Σ wₖ·pₖ at the
    temperature of the loss.

    For forward KL its gradient is the mean, with the same weights, of the gradients towards each
    alone. The ids that are compared are those that all of them share with the student. Raises
    ConfigError for weights that are no shares.
    """

    def __init__(self, teachers: Sequence[LiveTeacher], weights: Sequence[float]):
        check_weights(weights)
        self.teachers, self.weights = tuple(teachers), tuple(weights)

    def expected(self, batch: Batch) -> Expected:
        parts = [teacher.expected(batch) for teacher in self.teachers]
        shared = min(teacher.shared for teacher in self.teachers)
        return Mixed(parts, self.weights, shared=shared)


class RoutedTeacher:
    """Teachers of which each is asked about documents of its own.

    routes (documents,) has the number of the teacher of each document, and a batch says of which
    document its positions are. A teacher reads the rows that have labels in its documents, whole,
    and no others.
    """

    def __init__(self, teachers: Sequence[Teacher], routes: np.ndarray):
        self.teachers, self.routes = tuple(teachers), routes

    def expected(self, batch: Batch) -> Expected:
        """Raises ConfigError for a batch that does not say which documents it is of."""
        if batch.documents is None:
            raise ConfigError(
                "a batch whose positions are of no document has no route to a teacher",
                hint="use batches that name documents, as those of Batches do",
            )
        counts = (batch.labels != IGNORED) & (batch.documents >= 0)
        owners = np.where(counts, self.routes[batch.documents], -1)
        numbers = [n for n in range(len(self.teachers)) if (owners == n).any()]
        rows = [np.flatnonzero((owners == n).any(axis=1)) for n in numbers]
        parts = [
            self.teachers[n].expected(batch.part(chosen))
            for n, chosen in zip(numbers, rows, strict=True)
        ]
        # numbered as the parts are: those without a position take no part
        place = np.full(len(self.teachers) + 1, -1)
        place[numbers] = np.arange(len(numbers))
        return Routed(parts, rows, place[owners])
