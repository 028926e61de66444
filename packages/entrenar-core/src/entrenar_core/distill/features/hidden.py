"""Losses of hidden states: student (B, T, d) and teacher (B, T, e), compared at each position.

Where there is a `projection` W (e, d), the student's are multiplied by it; without one, d is e.
"""

import numpy as np

from entrenar_common.errors import ShapeError
from entrenar_core.autograd import Tensor, ops
from entrenar_core.distill.features.arithmetic import check_mask, length, sequences, total, unit


def hidden_mse(
    student: Tensor,
    teacher: Tensor,
    mask: np.ndarray,
    *,
    normalizer: int,
    projection: Tensor | None = None,
) -> Tensor:
    """Σ‖W h_s − h_t‖² / (e · `normalizer`), which are the step's tokens.

    Source: Romero et al. 2015 (FitNets), arXiv:1412.6550, for every position.
    """
    x, y = _rows(student, teacher, mask, projection)  # (n, e)
    return ops.mse(x, y, reduction="sum") / (normalizer * y.shape[-1])


def hidden_cosine(
    student: Tensor,
    teacher: Tensor,
    mask: np.ndarray,
    *,
    normalizer: int,
    projection: Tensor | None = None,
) -> Tensor:
    """Σ(1 − cos(W h_s, h_t)) / `normalizer`, which are the step's tokens.

    Of the last hidden states, without a projection, it is that of DistilBERT: Sanh et al. 2019,
    arXiv:1910.01108, §2.
    """
    x, y = _rows(student, teacher, mask, projection)  # (n, e)
    return ops.sum(1.0 - ops.cosine_similarity(x, y)) / normalizer


def patient_mse(
    student: Tensor,
    teacher: Tensor,
    mask: np.ndarray,
    *,
    normalizer: int,
    projection: Tensor | None = None,
) -> Tensor:
    """Σ‖W h_s/‖W h_s‖ − h_t/‖h_t‖‖² / `normalizer`, which are the step's positions in `mask`.

    In the paper that is the first position of each sequence ([CLS]) alone: give such a mask, and
    the number of sequences. Source: Sun et al. 2019 (PKD), arXiv:1908.09355.
    """
    x, y = _rows(student, teacher, mask, projection)  # (n, e)
    return ops.mse(unit(x), unit(y), reduction="sum") / normalizer


def attention_transfer(
    student: Tensor,
    teacher: Tensor,
    mask: np.ndarray,
    *,
    normalizer: int,
    documents: np.ndarray | None = None,
) -> Tensor:
    """½ Σ_b ‖Q_s − Q_t‖ / `normalizer`, which are the step's sequences; any widths.

    Q is the map of a sequence b: Σ over the width of h², for the positions that count, divided by
    its length over them. Source: Zagoruyko and Komodakis 2017, arXiv:1612.03928, with p = 2.
    """
    maps = _maps(student, teacher, mask, documents)
    return total((length(s - t) for s, t in maps), student.dtype) / (2 * normalizer)


def attention_transfer_squared(
    student: Tensor,
    teacher: Tensor,
    mask: np.ndarray,
    *,
    normalizer: int,
    documents: np.ndarray | None = None,
) -> Tensor:
    """Σ_b ‖Q_s − Q_t‖² / `normalizer`, which are the step's tokens: as the authors' code has it,
    with the maps Q of `attention_transfer`."""
    maps = _maps(student, teacher, mask, documents)
    parts = (ops.mse(s, t, reduction="sum") for s, t in maps)
    return total(parts, student.dtype) / normalizer


def _maps(
    student: Tensor, teacher: Tensor, mask: np.ndarray, documents: np.ndarray | None
) -> list[tuple[Tensor, Tensor]]:
    """The maps (n,) of each sequence that has positions, of student and teacher."""
    check_mask(mask, student, teacher)
    found = sequences(mask, documents)
    return [(_map(student[index]), _map(teacher[index])) for index in found]


def _map(rows: Tensor) -> Tensor:
    """rows (n, d) → (n,), of length 1."""
    return unit(ops.sum(rows * rows, axis=-1))


def _rows(
    student: Tensor, teacher: Tensor, mask: np.ndarray, projection: Tensor | None
) -> tuple[Tensor, Tensor]:
    """The positions that count, of the projected student and of the teacher: (n, e) each."""
    check_mask(mask, student, teacher)
    wide = student.shape[-1] if projection is None else projection.shape[0]
    if wide != teacher.shape[-1]:
        raise ShapeError(
            f"hidden states of {wide} numbers and a teacher's of {teacher.shape[-1]}",
            hint="give a projection (teacher's width, student's width)",
        )
    x, y = student[mask], teacher[mask]  # (n, d), (n, e)
    return (x if projection is None else ops.linear(x, projection)), y
