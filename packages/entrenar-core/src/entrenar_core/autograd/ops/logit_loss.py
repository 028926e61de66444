"""The loss of a distillation of logits that exist as an array, such as those of a classifier."""

import numpy as np

from entrenar_common.errors import ShapeError
from entrenar_core import kernels
from entrenar_core.autograd.op import op


@op
def logit_distillation(logits, expected, targets, *, divergence, alpha, normalizer, parts):
    """α·T²·D(teacher, student) + (1 − α)·CE, summed over rows, / normalizer.

    logits (N, C), expected (N, C), the teacher's logits, to which no gradient goes, targets (N,)
    → scalar. Rows with a negative target do not count. A `divergence` (Divergence) without T² stays
    without; `parts` (DistillationParts) is added to. Where α is 1, targets need not be true.
    Source: Hinton et al. 2015, arXiv:1503.02531.
    """
    count, classes = logits.shape if logits.ndim == 2 else (-1, 0)
    fits = expected.shape == logits.shape and targets.shape == (count,)
    if not fits or targets.max(initial=-1) >= classes:
        raise ShapeError(
            f"logit_distillation: logits {logits.shape}, a teacher's {expected.shape} and targets "
            f"{targets.shape} up to {targets.max(initial=-1)}",
            hint="logits are (N, C) of both, and each row has one target below C",
        )
    gradient = np.array(logits, order="C")
    values = kernels.distillation_grad(
        gradient, np.array(expected, logits.dtype), targets,
        divergence=divergence, alpha=alpha, shared=classes, scale=1 / normalizer,
    )  # fmt: skip
    cross_entropy, apart, agreement = (v.sum(dtype=np.float64) / normalizer for v in values)
    parts.cross_entropy += cross_entropy
    parts.divergence += apart
    parts.agreement += agreement
    loss = alpha * divergence.factor * apart + (1 - alpha) * cross_entropy
    return np.asarray(loss, logits.dtype), (lambda g: g * gradient, None, None)
