"""Whether probabilities are to be believed: what they were, and how often they were right."""

from dataclasses import dataclass

import numpy as np

from entrenar_core.train.evaluate import BINS

__all__ = ["CalibrationBin", "bin_of", "bins_of"]


@dataclass(frozen=True)
class CalibrationBin:
    """The predictions, of tokens or texts, whose most likely answer had a probability above
    `above`, up to `up_to`: how many they are, that probability's mean, and the share of them where
    it was right."""

    above: float
    up_to: float
    count: int
    confidence: float | None
    accuracy: float | None


def bin_of(confidence: np.ndarray) -> np.ndarray:
    """The number of each confidence's bin: bin i has those above i/BINS up to (i + 1)/BINS."""
    return np.clip(np.ceil(confidence * BINS) - 1, 0, BINS - 1).astype(np.int64)


def bins_of(sums: np.ndarray) -> tuple[CalibrationBin, ...]:
    """The bins of sums (BINS, 3): predictions, Σ confidence, and how many were right."""
    return tuple(
        CalibrationBin(
            above=i / BINS,
            up_to=(i + 1) / BINS,
            count=int(count),
            confidence=confidence / count if count else None,
            accuracy=hits / count if count else None,
        )
        for i, (count, confidence, hits) in enumerate(sums.tolist())
    )
