"""How often a classifier and its teacher are right, together and alone."""

import numpy as np

from entrenar_distill.intervals import Figure, Sample

__all__ = ["class_outcomes"]

NAMES = ("both_right", "right_alone", "teacher_alone", "both_wrong")


def class_outcomes(right: np.ndarray, teacher: np.ndarray, *, seed: int) -> dict[str, Figure]:
    """The shares of texts where the model and the `teacher` are right, booleans (N,) each:
    `both_right`, `right_alone` (the model is and the teacher is not), `teacher_alone` and
    `both_wrong`, which add up to 1.

    The intervals are of the texts that `class_figures` resamples.
    """
    cases = [right & teacher, right & ~teacher, ~right & teacher, ~right & ~teacher]
    sample = Sample(np.column_stack([np.ones(len(right)), *cases]), over="texts", seed=seed)
    return {name: sample.share(_share(1 + i)) for i, name in enumerate(NAMES)}


def _share(column: int):
    return lambda sums: sums[..., column] / sums[..., 0]
