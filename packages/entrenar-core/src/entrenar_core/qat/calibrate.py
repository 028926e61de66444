"""What the layers of a trained model see on some data, and how its loss feels their weights."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from entrenar_common.errors import ConfigError
from entrenar_core.autograd import Tensor, no_grad
from entrenar_core.qat.places import matrices, projections
from entrenar_core.quant import Grain, Integer, Observer, RunningRange


@dataclass
class InputStatistics:
    """The inputs of one projection. range: their range; squares (in,) float64: Σx² of each feature
    over `rows` positions."""

    range: RunningRange
    squares: np.ndarray
    rows: int = 0

    def update(self, x: np.ndarray) -> None:
        """Take x (..., in) into account. Raises NumericsError for NaN or infinity."""
        flat = x.reshape(-1, x.shape[-1])
        self.range.update(flat)
        self.squares += np.einsum("ij,ij->j", flat, flat, dtype=np.float64)
        self.rows += len(flat)

    @property
    def mean_squares(self) -> np.ndarray:
        """E[x²] of each feature (in,): how much an error of a column of the weight matters."""
        return self.squares / max(self.rows, 1)


def calibrate(
    model: Any,
    batches: Iterable[Any],
    *,
    run: Callable[[Any], Any],
    form: Integer | None = None,
    observer: Observer | None = None,
    momentum: float | None = None,
) -> dict[str, InputStatistics]:
    """What the projections of `model` see while `run(batch)` runs it on each of `batches`.

    `run` calls the model, such as `lambda ids: model.hidden(ids)`. Ranges are for integers of
    `form`, by default asymmetric ones of 8 bits; `observer` says where a batch's range ends, and
    `momentum` how ranges of batches are joined: see `RunningRange`. Names are those of the weights.
    Raises ConfigError without batches, NumericsError for inputs that are not finite.
    """
    form = form or Integer(8, symmetric=False, grain=Grain("tensor"))
    layers, found = projections(model), {}
    for name, layer in layers.items():
        features = layer.weight.shape[1 - layer.output_axis]
        ranges = RunningRange(form, observer=observer, momentum=momentum)
        found[name] = InputStatistics(ranges, np.zeros(features))
        layer.on_input = _looking(found[name])
    empty = True
    try:
        with no_grad():
            for batch in batches:
                run(batch)
                empty = False
    finally:
        for layer in layers.values():
            layer.on_input = None
    if empty:
        raise ConfigError("no batch to calibrate with", hint="give at least one")
    return found


def squared_gradients(
    model: Any, batches: Iterable[Any], *, loss: Callable[[Any], Tensor]
) -> dict[str, np.ndarray]:
    """E[g²] of each matrix's elements over `batches`, g being the gradient of `loss(batch)`: the
    diagonal of the empirical Fisher information, float32, as large as the model.

    Half of Σ E[g²]·Δ² is what an error Δ of the weights adds to the loss, up to a factor that all
    matrices have in common (LeCun et al. 1989, Optimal Brain Damage). Gradients of the model are
    taken and forgotten. Raises ConfigError without batches.
    """
    found = {
        name: np.zeros(m.parameter.shape, np.float32)
        for name, m in matrices(model).items()
        if m.parameter.requires_grad
    }
    parameters, count = model.named_parameters(), 0
    for batch in batches:
        for parameter in parameters.values():
            parameter.grad = None
        loss(batch).backward()
        for name, total in found.items():
            if parameters[name].grad is not None:
                total += np.square(parameters[name].grad)
        count += 1
    for parameter in parameters.values():
        parameter.grad = None
    if not count:
        raise ConfigError("no batch to calibrate with", hint="give at least one")
    return {name: total / count for name, total in found.items()}


def ranges_of(statistics: Mapping[str, InputStatistics]) -> dict[str, RunningRange]:
    """The ranges alone, for `QuantizedModel.take_ranges`."""
    return {name: each.range for name, each in statistics.items()}


def _looking(statistics: InputStatistics) -> Callable[[Tensor], Tensor]:
    def look(x: Tensor) -> Tensor:
        statistics.update(x.data)
        return x

    return look
