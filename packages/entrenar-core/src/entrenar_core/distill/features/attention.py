"""Losses of queries, keys and values: `models.features.Heads` of a student and of a teacher."""

from collections.abc import Sequence

import numpy as np

from entrenar_common.errors import ShapeError
from entrenar_core.autograd import Tensor, ops
from entrenar_core.distill.features.arithmetic import check_mask, sequences, total
from entrenar_core.distill.features.counts import narrower, seen
from entrenar_core.models.features import Heads


def score_mse(
    student: Heads,
    teacher: Heads,
    mask: np.ndarray,
    *,
    normalizer: int,
    documents: np.ndarray | None = None,
) -> Tensor:
    """Σ(A_s − A_t)² / (H · `normalizer`), which are the step's pairs that both models see.

    A = scale · q kᵀ are the scores before the softmax, of as many heads H in both models. Pairs
    that a causal mask, a window or padding hides do not count. Source: Jiao et al. 2020 (TinyBERT),
    arXiv:1909.10351.
    """
    check_mask(mask, student.q, teacher.q)
    if student.q.shape[2] != teacher.q.shape[2]:
        raise ShapeError(
            f"scores of {student.q.shape[2]} heads and a teacher's of {teacher.q.shape[2]}",
            hint="take the relations of MiniLM for models with different numbers of heads",
        )
    causal, window = visibility(student, teacher)

    def squares(index: tuple[int, np.ndarray]) -> Tensor:
        shown = seen(np.flatnonzero(index[1]), causal=causal, window=window)  # (n, n)
        difference = _scores(student, index) - _scores(teacher, index)  # (H, n, n)
        return ops.sum(ops.where(shown, difference * difference, 0.0))

    parts = (squares(index) for index in sequences(mask, documents))
    return total(parts, student.q.dtype) / (student.q.shape[2] * normalizer)


def relation_divergence(
    student: Heads,
    teacher: Heads,
    mask: np.ndarray,
    *,
    normalizer: int,
    heads: int,
    weights: Sequence[float] = (1.0, 1.0, 1.0),
    documents: np.ndarray | None = None,
) -> Tensor:
    """Σ_b Σ_X w_X · KL(R_t ‖ R_s) / (heads · n_b · `normalizer`), which are the step's sequences.

    X is Q, K and V with their `weights`. The heads of X are joined and split again into `heads`
    relation heads of d numbers, R = softmax(X Xᵀ/√d) over the n_b positions of a sequence that
    count; in a causal model over those that are not after the query. Widths and numbers of heads
    may differ. Source: Wang et al. 2021 (MiniLMv2), arXiv:2012.15828.
    """
    check_mask(mask, student.q, teacher.q)
    causal, _ = visibility(student, teacher)

    def divergence(index: tuple[int, np.ndarray]) -> Tensor:
        shown = seen(np.flatnonzero(index[1]), causal=causal, window=None)  # (n, n)
        pairs = zip(weights, _vectors(student), _vectors(teacher), strict=True)
        parts = (
            weight * _divergence(_relation(s, index, heads), _relation(t, index, heads), shown)
            for weight, s, t in pairs
            if weight
        )
        return total(parts, student.q.dtype) / (heads * len(shown))

    parts = (divergence(index) for index in sequences(mask, documents))
    return total(parts, student.q.dtype) / normalizer


def visibility(student: Heads, teacher: Heads) -> tuple[bool, int | None]:
    """Whether one of them is causal, and the narrower of their windows: what both see."""
    return student.causal or teacher.causal, narrower((student.window, teacher.window))


def _scores(heads: Heads, index: tuple[int, np.ndarray]) -> Tensor:
    """scale · q kᵀ of the positions of one sequence that count: (H, n, n)."""
    q, k = heads.q[index], heads.k[index]  # (n, H, D), (n, G, D)
    count, width = q.shape[1:]
    groups = k.shape[1]
    grouped = ops.reshape(q, (len(q), groups, count // groups, width))
    scores = ops.einsum("tgrd,sgd->grts", grouped, k)  # (G, H/G, n, n)
    return ops.reshape(scores, (count, len(q), len(q))) * heads.scale


def _vectors(heads: Heads) -> tuple[Tensor, Tensor, Tensor]:
    return heads.q, heads.k, heads.v


def _relation(x: Tensor, index: tuple[int, np.ndarray], heads: int) -> Tensor:
    """X Xᵀ/√d of the positions of one sequence that count: (heads, n, n)."""
    width = x.shape[2] * x.shape[3]
    if width % heads:
        raise ShapeError(
            f"vectors of {width} numbers cannot be split into {heads} relation heads",
            hint=f"choose a number of relation heads that divides {width}",
        )
    rows = x[index]  # (n, H, D)
    split = ops.reshape(rows, (len(rows), heads, width // heads))
    return ops.einsum("tad,sad->ats", split, split) * (width // heads) ** -0.5


def _divergence(student: Tensor, teacher: Tensor, shown: np.ndarray) -> Tensor:
    """ΣKL(softmax(teacher) ‖ softmax(student)) over rows, among what is `shown` of each."""
    log_q, log_p = (
        ops.log_softmax(ops.where(shown, scores, -np.inf)) for scores in (student, teacher)
    )
    return ops.kl_divergence(log_q, log_p, log_target=True, reduction="sum")
