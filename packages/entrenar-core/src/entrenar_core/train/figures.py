"""Figures of what models say about whole texts."""

import math

import numpy as np

from entrenar_core.autograd import Tensor, ops

__all__ = ["of_classes", "of_numbers"]


def of_classes(logits: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """The mean cross-entropy, the share of right answers, and the mean of 2·right/(given + true)
    over the classes that were given or are true, of logits (N, C) and class numbers (N,).

    The most likely class is the answer, of equal ones the first.
    """
    wide, answers = logits.astype(np.float64), logits.argmax(axis=1)
    classes = logits.shape[1]
    right = np.bincount(labels[answers == labels], minlength=classes)
    both = np.bincount(answers, minlength=classes) + np.bincount(labels, minlength=classes)
    there = both > 0
    return {
        "held_out_loss": ops.cross_entropy(Tensor(wide), labels).item(),
        "accuracy": float(np.mean(answers == labels)),
        "macro_f1": float(np.mean(2 * right[there] / both[there])),
    }


def of_numbers(found: np.ndarray, wanted: np.ndarray) -> dict[str, float]:
    """The mean of (found − wanted)², its root, and R² = 1 − Σ(found − wanted)² / Σ(wanted − mean)²
    of numbers (N,) each. R² is NaN where all that is wanted is one number."""
    errors = found.astype(np.float64) - wanted
    squared, spread = float(np.sum(errors**2)), float(np.sum((wanted - wanted.mean()) ** 2))
    mean = squared / len(wanted)
    return {
        "held_out_loss": mean,
        "rmse": math.sqrt(mean),
        "r2": 1 - squared / spread if spread else math.nan,
    }
