"""What storing each matrix in each format costs: bytes, error, and loss."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from entrenar_common.errors import ConfigError, ShapeError
from entrenar_core.autograd import Tensor, no_grad
from entrenar_core.qat.calibrate import InputStatistics
from entrenar_core.qat.places import Matrix, matrices
from entrenar_core.quant import Format, QuantError, format_named, quant_error


@dataclass(frozen=True)
class Sensitivity:
    """One matrix in one format.

    error: of the weight; output_error: ‖Δ·x‖² / ‖W·x‖² in expectation over the inputs, their
    features taken as independent, None where the inputs are not known; by_gradient: half of
    Σ E[g²]·Δ², what the loss grows by up to a factor, None without gradients; loss_change: what it
    did grow by with this matrix alone in that format, None where it was not measured.
    """

    name: str
    form: str
    nbytes: int
    error: QuantError
    output_error: float | None = None
    by_gradient: float | None = None
    loss_change: float | None = None


def sensitivities(
    model: Any,
    formats: Iterable[str | Format],
    *,
    names: Iterable[str] | None = None,
    inputs: Mapping[str, InputStatistics] | None = None,
    gradients: Mapping[str, np.ndarray] | None = None,
    loss: Callable[[], float] | None = None,
) -> list[Sensitivity]:
    """The cost of each of the matrices `names` (all by default) in each of `formats` that can store
    it.

    `inputs` come from `calibrate`, `gradients` from `squared_gradients`: cheap estimates. `loss()`
    evaluates the model, once as it is and once for every line of the result. Raises ConfigError for
    a name that the model has not.
    """
    found = matrices(model)
    chosen = list(found) if names is None else list(names)
    if unknown := [name for name in chosen if name not in found]:
        raise ConfigError(
            f"the model has no matrix {unknown[0]}", hint="give names of its parameters"
        )
    forms = [format_named(form) for form in formats]
    before = None if loss is None else _value(loss)
    rows = []
    for name in chosen:
        for form in forms:
            try:
                stored, values = _as_stored(found[name], form)
            except ShapeError:  # its rows are no whole number of blocks
                continue
            delta = np.square(values - found[name].parameter.data)
            rows.append(
                Sensitivity(
                    name,
                    form.name,
                    stored,
                    quant_error(found[name].parameter.data, values),
                    _output_error(found[name], delta, (inputs or {}).get(name)),
                    _by_gradient(delta, (gradients or {}).get(name)),
                    None if loss is None or before is None
                    else _with(found[name], values, loss) - before,
                )
            )  # fmt: skip
    return rows


def _as_stored(matrix: Matrix, form: Format) -> tuple[int, np.ndarray]:
    """Bytes, and the numbers that come back, in the layer's own layout."""
    array = np.moveaxis(matrix.parameter.data, matrix.output_axis, 0)
    stored = form.quantize(np.ascontiguousarray(array))
    return stored.nbytes, np.moveaxis(stored.dequantize(), 0, matrix.output_axis)


def _output_error(
    matrix: Matrix, delta: np.ndarray, inputs: InputStatistics | None
) -> float | None:
    if inputs is None:
        return None
    axis = matrix.output_axis  # that of the features is the other one
    each = inputs.mean_squares
    noise = delta.sum(axis=axis, dtype=np.float64) @ each
    signal = np.square(matrix.parameter.data).sum(axis=axis, dtype=np.float64) @ each
    return float(noise / signal) if signal else 0.0


def _by_gradient(delta: np.ndarray, squares: np.ndarray | None) -> float | None:
    return None if squares is None else float((delta * squares).sum(dtype=np.float64) / 2)


def _with(matrix: Matrix, values: np.ndarray, loss: Callable[[], float]) -> float:
    """The loss with `values` in the place of a matrix."""
    try:
        matrix.put(Tensor(values.astype(matrix.parameter.dtype)))
        return _value(loss)
    finally:
        matrix.put(matrix.parameter)


def _value(loss: Callable[[], float]) -> float:
    with no_grad():
        return float(loss())
