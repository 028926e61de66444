"""The gradient of the loss beside differences of the loss itself."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from entrenar_core.autograd import Tensor, no_grad
from entrenar_core.data.batches import Batch
from entrenar_core.rng import stream
from entrenar_distill.check import Check
from entrenar_distill.self_check_gradient import loss_of, step_of, trained
from entrenar_distill.self_check_subject import Subject, hidden_states

DIRECTIONS = 2
"""Random directions besides that of the gradient."""

_POINTS = ((1, 8), (-1, -8), (2, -1), (-2, 1))
"""Of the difference [8·f(h) − 8·f(−h) − f(2h) + f(−2h)] / 12h, exact to the fourth order in h."""

_STEP, _BOUND = 1e-4, 1e-6
_KINKED_STEP, _KINKED_BOUND = 1e-7, 1e-3
"""Where the loss has no derivative wherever two probabilities are equal, few such places are to lie
between the points of a difference."""
_SINGLE_STEPS, _SINGLE_BOUND = (1e-2, 1e-3), 5e-2
"""In float32, which has seven digits, a step is too large where the loss bends, or so small that
rounding is most of a difference: of two the better one counts."""


class HiddenStates:
    """A stand-in for a student whose last hidden states (B, T, E) and output projection (V, E) are
    given: what a loss of predictions does can be seen there."""

    def __init__(self, states: np.ndarray, weight: np.ndarray):
        self.states = Tensor(states, requires_grad=True)
        self.output_weight = Tensor(weight, requires_grad=True)

    def hidden(self, _ids: np.ndarray, *_more: Any, **_named: Any) -> Tensor:
        """The states, whatever the ids are: what else a model is told decides nothing here."""
        return self.states


def hidden_of(subject: Subject) -> tuple[np.ndarray, np.ndarray]:
    """The student's last hidden states for the batch and its output projection, in float64."""
    states = hidden_states(subject.student, subject.batch)
    return states.astype(np.float64), subject.student.output_weight.data.astype(np.float64)


def slope(subject: Subject, *, seed: int = 0) -> Iterator[Check]:
    """The gradient along some directions is the central difference of the loss: of the loss of
    predictions by hidden states and output projection, and of the whole one by trained numbers.

    The error is relative to the larger side, or to 1e-3·‖gradient‖·‖direction‖ where both are small
    because the direction happens to be nearly orthogonal to the gradient.
    """
    states, weight = hidden_of(subject)
    head = HiddenStates(states, weight)
    values = {"hidden": head.states, "weight": head.output_weight}
    at_head = _Slopes(subject.logits(head, subject.teachers), values, subject.batch, subject.step)
    size, bound = (_STEP, _BOUND) if subject.smooth else (_KINKED_STEP, _KINKED_BOUND)
    found = at_head.worst((size,), seed)
    note = f"{DIRECTIONS + 1} directions, float64" + _kinks(subject)
    yield Check.measured("gradient_head", "gradient by hidden states and head", found, bound, note)
    objective = subject.whole()
    weights = trained(subject.student, objective)
    whole = _Slopes(objective, weights, subject.batch, subject.step)
    found = whole.worst((size,) if subject.double else _SINGLE_STEPS, seed)
    bound = subject.bound(bound, _SINGLE_BOUND)
    count = sum(p.size for p in weights.values())
    precision = "float64" if subject.double else "float32"
    note = f"{DIRECTIONS + 1} directions in {count} numbers, {precision}" + _kinks(subject)
    yield Check.measured("gradient_weights", "gradient by trained numbers", found, bound, note)


def _kinks(subject: Subject) -> str:
    return "" if subject.smooth else "; the loss has kinks"


@dataclass(frozen=True)
class _Slopes:
    """An objective as a function of some arrays, which are moved in place and put back."""

    objective: Any
    values: Mapping[str, Tensor]
    batch: Batch
    step: int

    def worst(self, sizes: Sequence[float], seed: int) -> float:
        """The largest relative error over some directions, each with the step of `sizes` that suits
        it best; 1 is as large as the numbers that are moved."""
        step = step_of(self.objective, self.values, [self.batch], step=self.step)
        gradients = step.gradients
        ways = [_scaled(gradients, self.values)]
        for index in range(DIRECTIONS):
            ways.append({n: _random(p.data, seed, n, index) for n, p in self.values.items()})
        return max(min(self._error(gradients, way, size) for size in sizes) for way in ways)

    def _error(
        self, gradients: Mapping[str, np.ndarray], way: Mapping[str, np.ndarray], size: float
    ) -> float:
        pulled = _dot(gradients, way)
        pushed = sum(k * self._moved(way, n * size) for n, k in _POINTS) / (12 * size)
        small = 1e-3 * (_dot(gradients, gradients) * _dot(way, way)) ** 0.5
        scale = max(abs(pulled), abs(pushed), small)
        error = abs(pulled - pushed) / scale if scale else 0.0
        return error if np.isfinite(error) else np.inf

    def _moved(self, way: Mapping[str, np.ndarray], size: float) -> float:
        before = {name: p.data for name, p in self.values.items()}
        try:
            for name, p in self.values.items():
                p.data = (p.data + size * way[name]).astype(p.dtype, copy=False)
            with no_grad():
                return loss_of(self.objective, self.batch, step=self.step)
        finally:
            for name, p in self.values.items():
                p.data = before[name]


def _random(values: np.ndarray, seed: int, name: str, index: int) -> np.ndarray:
    """Normal numbers as large as `values` are."""
    rng = stream(seed, f"self-check {name}", index)
    return rng.standard_normal(values.shape) * _size(values)


def _scaled(gradients: Mapping[str, np.ndarray], values: Mapping[str, Tensor]) -> dict[str, Any]:
    """The gradient as a direction, of one tensor after the other as large as its values are."""
    return {
        name: gradient.astype(np.float64) * (_size(values[name].data) / (_size(gradient) or 1.0))
        for name, gradient in gradients.items()
    }


def _size(values: np.ndarray) -> float:
    """The root of the mean square; 1 where all are 0."""
    return float(np.sqrt(np.mean(np.square(values, dtype=np.float64)))) or 1.0


def _dot(left: Mapping[str, np.ndarray], right: Mapping[str, np.ndarray]) -> float:
    return sum(float(np.sum(left[n] * right[n], dtype=np.float64)) for n in left)
