"""A loss of features over some pairs of layers: what it needs of a pass, and what it comes to."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from entrenar_core.autograd import Parameter, Tensor
from entrenar_core.distill.features.counts import Counts
from entrenar_core.distill.features.layers import LayerPair
from entrenar_core.models.features import Selected, Wanted


@dataclass(frozen=True)
class FeatureLoss:
    """A loss of one pair of layers.

    `compute(student, teacher, mask, normalizer=…)` is its value (and takes a `projection` if
    `projected`, and `documents` if it is `of_sequences`, to be these), `per` the normaliser of a
    step, `wanted` what it needs of a layer, `take` that from a pass; `formula` says it in a line.
    """

    compute: Callable[..., Tensor]
    per: Callable[[Counts, Any, Any], int]
    wanted: Callable[[int], Wanted]
    take: Callable[[Selected, int], Any]
    formula: str
    projected: bool = False
    of_sequences: bool = False


@dataclass(frozen=True)
class Value:
    """What a term came to: its share of the loss, and `mean`, the mean over its pairs that are
    active, without weights."""

    loss: Tensor
    mean: float


class FeatureTerm:
    """weight · mean over all `pairs` of schedule factor · loss, as one named part of an objective.

    `projections` are the learned matrices (teacher's width, student's width), one for each pair or
    none at all. They are trained with the student and are no part of it.
    """

    def __init__(
        self,
        name: str,
        loss: FeatureLoss,
        *,
        pairs: Sequence[LayerPair],
        weight: float,
        projections: Mapping[LayerPair, Parameter] | None = None,
    ):
        self.name, self.loss, self.pairs, self.weight = name, loss, tuple(pairs), weight
        self.projections = dict(projections or {})

    def parameters(self) -> dict[str, Parameter]:
        """The projections, by names that tell the pair."""
        return {
            f"{self.name}.{pair.key}": projection for pair, projection in self.projections.items()
        }

    def active(self, step: int) -> list[tuple[LayerPair, float]]:
        """The pairs that take part in optimizer step `step`, with their factors."""
        factors = ((pair, pair.schedule.factor(step)) for pair in self.pairs)
        return [(pair, factor) for pair, factor in factors if factor > 0]

    def wanted(self, step: int) -> tuple[Wanted, Wanted]:
        """What step `step` needs of the student's pass and of the teacher's."""
        student, teacher = Wanted(), Wanted()
        for pair, _ in self.active(step):
            student |= self.loss.wanted(pair.student)
            teacher |= self.loss.wanted(pair.teacher)
        return student, teacher

    def value(
        self,
        student: Selected,
        teacher: Selected,
        mask: np.ndarray,
        *,
        step: int,
        counts: Counts,
        documents: np.ndarray | None = None,
    ) -> Value | None:
        """Its value for a micro-batch with the positions `mask` (B, T), of the `documents` (B, T)
        where these are to be kept apart, of a step with `counts`; None where no pair is active."""
        active = self.active(step)
        if not active:
            return None
        values = [
            (factor, self._of(pair, student, teacher, mask, counts, documents))
            for pair, factor in active
        ]
        loss, share = Tensor(np.zeros((), values[0][1].dtype)), self.weight / len(self.pairs)
        for factor, value in values:
            loss = loss + value * (share * factor)
        return Value(loss, sum(value.item() for _, value in values) / len(values))

    def _of(
        self,
        pair: LayerPair,
        student: Selected,
        teacher: Selected,
        mask: np.ndarray,
        counts: Counts,
        documents: np.ndarray | None,
    ) -> Tensor:
        ours, theirs = self.loss.take(student, pair.student), self.loss.take(teacher, pair.teacher)
        options: dict[str, Any] = {"normalizer": self.loss.per(counts, ours, theirs)}
        if pair in self.projections:
            options["projection"] = self.projections[pair]
        if self.loss.of_sequences:
            options["documents"] = documents
        return self.loss.compute(ours, theirs, mask, **options)
