"""How far quantized numbers are from what they stand for."""

import math
from dataclasses import dataclass

import numpy as np

from entrenar_common.errors import ShapeError
from entrenar_core.quant.base import Format, format_named


@dataclass(frozen=True)
class QuantError:
    """sqnr_db: 10·log10(Σx² / Σ(x − y)²), infinite for no error; max and mean of |x − y|; relative:
    ‖x − y‖ / ‖x‖, the norms being those of all elements."""

    sqnr_db: float
    max: float
    mean: float
    relative: float


def quant_error(x: np.ndarray, y: np.ndarray) -> QuantError:
    """The error of `y` in place of `x`, in float64. ShapeError for different shapes.

    >>> quant_error(np.array([3.0, 4.0]), np.array([3.0, 4.5]))
    QuantError(sqnr_db=20.0, max=0.5, mean=0.25, relative=0.1)
    """
    if x.shape != y.shape:
        raise ShapeError(
            f"an array of shape {x.shape} beside one of shape {y.shape}",
            hint="compare a weight with what it became",
        )
    wide = x.astype(np.float64)
    error = np.abs(wide - y)
    if not error.any():
        return QuantError(math.inf, 0.0, 0.0, 0.0)
    signal, noise = float(np.square(wide).sum()), float(np.square(error).sum())
    ratio = math.sqrt(noise / signal) if signal else math.inf
    sqnr = 10 * math.log10(signal / noise) if signal else -math.inf
    return QuantError(sqnr, float(error.max()), float(error.mean()), ratio)


def error_of(array: np.ndarray, form: str | Format) -> QuantError:
    """The error of `array` stored in `form`."""
    return quant_error(array, format_named(form).quantize(array).dequantize())
