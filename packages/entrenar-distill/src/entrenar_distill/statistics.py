"""How sure a measured difference is: the bootstrap over held-out documents.

Two models are measured on the same documents, so the documents are resampled with both models'
results together (paired), and each as a whole, because tokens of one document are not independent.
Source: Efron and Tibshirani, "An Introduction to the Bootstrap" (1993), chapters 8 and 13.
"""

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike

from entrenar_common.errors import ShapeError
from entrenar_core.rng import stream
from entrenar_distill.report import Difference

__all__ = ["bits_per_byte_difference", "draws", "paired_bootstrap"]

_CHUNK_VALUES = 2**20  # bounds the memory: resamples × documents at a time


def paired_bootstrap(
    numerators: ArrayLike,
    weights: ArrayLike,
    *,
    confidence: float = 0.95,
    resamples: int = 10_000,
    seed: int = 0,
) -> tuple[float, float, float]:
    """Estimate, lower and upper bound of the ratio Σ numerators / Σ weights over documents.

    Both have shape (documents,); the weights are positive. The bounds are percentiles of the ratio
    over resampled sets of documents: an interval that tends to be a little narrow when there are
    fewer than some 30 documents, or a few that outweigh the rest. With a single document, or when a
    value is not finite, nothing is known about the bounds and they are NaN.

    >>> estimate, low, high = paired_bootstrap([1.0, 2.0, 3.0], [1.0, 1.0, 1.0])
    >>> estimate, low <= estimate <= high
    (2.0, True)
    """
    top, bottom = np.asarray(numerators, np.float64), np.asarray(weights, np.float64)
    if top.ndim != 1 or top.shape != bottom.shape or top.size == 0:
        raise ShapeError(
            f"numerators {top.shape} and weights {bottom.shape} must be one value per document",
            hint="give one numerator and one weight for every held-out document",
        )
    estimate = float(top.sum() / bottom.sum())
    if len(top) < 2 or not math.isfinite(estimate):
        return estimate, math.nan, math.nan
    ratios = _resampled(top, bottom, resamples, stream(seed, "bootstrap"))
    tail = (1 - confidence) / 2
    low, high = np.quantile(ratios, [tail, 1 - tail])
    return estimate, float(low), float(high)


def bits_per_byte_difference(
    student_nats: ArrayLike,
    control_nats: ArrayLike,
    byte_counts: ArrayLike,
    *,
    confidence: float = 0.95,
    resamples: int = 10_000,
    seed: int = 0,
) -> Difference:
    """Student minus control in bits per byte; below 0 the student predicts the text better.

    The first two are each document's summed cross-entropy in nats, (documents,); the third its
    length in bytes. Formula: Σ (student − control) / (ln 2 · Σ bytes).
    """
    student, control = np.asarray(student_nats, np.float64), np.asarray(control_nats, np.float64)
    if student.shape != control.shape:
        raise ShapeError(
            f"the student was measured on {student.shape} documents, the control on "
            f"{control.shape}",
            hint="measure both on the same held-out documents",
        )
    bits = np.asarray(byte_counts, np.float64) * math.log(2)
    estimate, low, high = paired_bootstrap(
        student - control, bits, confidence=confidence, resamples=resamples, seed=seed
    )
    return Difference(estimate, low, high, confidence, len(student), resamples)


def draws(
    documents: int, resamples: int, rng: np.random.Generator
) -> Iterator[tuple[slice, np.ndarray]]:
    """Which documents each resampled set has, (some resamples, documents), and the slice of the
    resamples that these are."""
    rows = max(1, _CHUNK_VALUES // documents)
    for start in range(0, resamples, rows):
        stop = min(start + rows, resamples)
        yield slice(start, stop), rng.integers(documents, size=(stop - start, documents))


def _resampled(
    top: np.ndarray, bottom: np.ndarray, resamples: int, rng: np.random.Generator
) -> np.ndarray:
    ratios = np.empty(resamples)
    for part, drawn in draws(len(top), resamples, rng):
        ratios[part] = top[drawn].sum(axis=1) / bottom[drawn].sum(axis=1)
    return ratios
