"""Features of a student and a teacher of other widths and heads, in a padded batch."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from entrenar_core.autograd import Tensor
from entrenar_core.distill import features
from entrenar_core.models.features import Heads

BATCH, TIME = 3, 7
STUDENT, TEACHER = 6, 8
"""Widths of hidden states."""

MASKS = {
    "whole": np.ones((BATCH, TIME), bool),
    "right": np.arange(TIME) < np.array([[7], [4], [2]]),
    "left": np.arange(TIME) >= np.array([[0], [3], [5]]),
    "holes": np.array([[1, 1, 0, 1, 0, 1, 1], [0, 1, 1, 1, 0, 0, 0], [0, 0, 0, 0, 0, 0, 0]], bool),
}
"""Which positions count; the last has a sequence without any."""


def normal(name: str, *shape: int) -> np.ndarray:
    return np.random.default_rng(sum(name.encode())).standard_normal(shape)


@dataclass(frozen=True)
class HeadShape:
    """Numbers of heads, groups and their width, and what a query sees."""

    heads: int
    groups: int
    width: int
    causal: bool = True
    window: int | None = None

    @property
    def scale(self) -> float:
        return self.width**-0.5

    def arrays(self, name: str) -> list[np.ndarray]:
        counts = {"q": self.heads, "k": self.groups, "v": self.groups}
        return [normal(name + x, BATCH, TIME, count, self.width) for x, count in counts.items()]

    def of(self, q: Any, k: Any, v: Any) -> Heads:
        return Heads(q, k, v, self.scale, self.causal, self.window)


@dataclass(frozen=True)
class FeatureCase:
    """A loss, its inputs from the student (differentiated) and from the teacher, and `torch`, the
    name of the function of `feature_torch` that is its definition.

    `call(mask, normalizer, *student, *teacher)` takes tensors.
    """

    name: str
    call: Callable[..., Tensor]
    student: tuple[np.ndarray, ...]
    teacher: tuple[np.ndarray, ...]
    torch: str
    options: dict[str, Any]


def _states(name: str, torch: str, *, projected: bool, **options: Any) -> FeatureCase:
    loss = getattr(features, name)
    student = (normal("s" + name, BATCH, TIME, STUDENT if projected else TEACHER),)
    if name in ("similarity_preserving", "distance_relation", "angle_relation") or (
        "transfer" in name
    ):
        student = (normal("s" + name, BATCH, TIME, STUDENT),)
    if projected:
        student += (normal("w" + name, TEACHER, STUDENT),)

    def call(mask: Any, normalizer: int, x: Any, *rest: Any) -> Tensor:
        given = {"projection": rest[0]} if projected else {}
        return loss(x, rest[-1], mask, normalizer=normalizer, **given)

    label = name + (", projected" if projected else "")
    teacher = (normal("t" + name, BATCH, TIME, TEACHER),)
    return FeatureCase(label, call, student, teacher, torch, options)


def _heads(
    name: str, ours: HeadShape, theirs: HeadShape, torch: str, label: str, **options: Any
) -> FeatureCase:
    loss = getattr(features, name)

    def call(mask: Any, normalizer: int, *x: Any) -> Tensor:
        return loss(ours.of(*x[:3]), theirs.of(*x[3:]), mask, normalizer=normalizer, **options)

    student, teacher = tuple(ours.arrays("s" + label)), tuple(theirs.arrays("t" + label))
    shapes = {"ours": ours, "theirs": theirs}
    return FeatureCase(f"{name}, {label}", call, student, teacher, torch, {**shapes, **options})


ENCODER = {"causal": False}
CASES = [
    _states("hidden_mse", "mse", projected=True),
    _states("hidden_mse", "mse", projected=False),
    _states("hidden_cosine", "cosine", projected=True),
    _states("hidden_cosine", "cosine", projected=False),
    _states("patient_mse", "patient", projected=True),
    _states("patient_mse", "patient", projected=False),
    _states("attention_transfer", "transfer", projected=False),
    _states("attention_transfer_squared", "transfer_squared", projected=False),
    _states("similarity_preserving", "similarity", projected=False),
    _states("distance_relation", "distance", projected=False),
    _states("angle_relation", "angle", projected=False),
    _heads("score_mse", HeadShape(4, 2, 3), HeadShape(4, 1, 5), "scores", "grouped"),
    _heads(
        "score_mse", HeadShape(2, 2, 3, window=3), HeadShape(2, 2, 4), "scores", "window"
    ),
    _heads(
        "score_mse", HeadShape(2, 2, 3, **ENCODER), HeadShape(2, 2, 4, **ENCODER), "scores",
        "encoder",
    ),
    _heads(
        "relation_divergence", HeadShape(4, 2, 3), HeadShape(2, 2, 6), "relations", "causal",
        heads=3, weights=(1.0, 0.5, 2.0),
    ),
    _heads(
        "relation_divergence", HeadShape(2, 2, 4, **ENCODER), HeadShape(3, 3, 4, **ENCODER),
        "relations", "encoder", heads=2, weights=(1.0, 1.0, 1.0),
    ),
]  # fmt: skip


def tensors(case: FeatureCase, *, dtype: str = "float64") -> list[Tensor]:
    """The inputs of a case; those of the student require gradients."""
    ours = [Tensor(x.astype(dtype), requires_grad=True) for x in case.student]
    return ours + [Tensor(x.astype(dtype)) for x in case.teacher]
