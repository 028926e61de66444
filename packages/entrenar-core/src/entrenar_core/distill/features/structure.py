"""Losses of how the hidden states of a sequence lie to each other: any widths, no projection.

The papers compare the samples of a batch. Here it is the n positions of a sequence that count,
which does not depend on how a step is cut into batches; for the samples of a batch, give vectors
(1, samples, width).
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from entrenar_core.autograd import Tensor, checkpoint, ops
from entrenar_core.distill.features.arithmetic import check_mask, sequences, total, unit

ANGLES = 2**20
"""Angles that exist at a time."""


def similarity_preserving(
    student: Tensor,
    teacher: Tensor,
    mask: np.ndarray,
    *,
    normalizer: int,
    documents: np.ndarray | None = None,
) -> Tensor:
    """Σ_b ‖G_s − G_t‖² / n² / `normalizer`, which are the step's sequences.

    G = X Xᵀ with every row divided by its length. Source: Tung and Mori 2019, arXiv:1907.09682.
    """

    def compared(s: Tensor, t: Tensor) -> Tensor:
        return ops.mse(unit(_products(s)), unit(_products(t)))

    return _per_sequence(compared, student, teacher, mask, documents, normalizer)


def distance_relation(
    student: Tensor,
    teacher: Tensor,
    mask: np.ndarray,
    *,
    normalizer: int,
    documents: np.ndarray | None = None,
) -> Tensor:
    """Σ_b mean_ij ℓ(ψ_s, ψ_t) / `normalizer`, which are the step's sequences.

    ψ = ‖x_i − x_j‖/μ with μ the mean of the distances that are not 0, and ℓ is the smooth L1 loss
    with δ = 1, over all n² pairs. Source: Park et al. 2019 (RKD), arXiv:1904.05068.
    """

    def compared(s: Tensor, t: Tensor) -> Tensor:
        return ops.smooth_l1(_relative(_distances(s)), _relative(_distances(t)))

    return _per_sequence(compared, student, teacher, mask, documents, normalizer)


def angle_relation(
    student: Tensor,
    teacher: Tensor,
    mask: np.ndarray,
    *,
    normalizer: int,
    documents: np.ndarray | None = None,
) -> Tensor:
    """Σ_b mean_ijk ℓ(ψ_s, ψ_t) / `normalizer`, which are the step's sequences.

    ψ = ⟨x_i − x_j, x_k − x_j⟩ of unit vectors, 0 where two points are one, and ℓ is the smooth L1
    loss with δ = 1, over all n³ triples. Time grows with n³, memory with n²: angles are computed
    again on the way back. Source: Park et al. 2019 (RKD), arXiv:1904.05068.
    """

    def compared(s: Tensor, t: Tensor) -> Tensor:
        count = len(s)
        at_once = max(1, ANGLES // count**2)
        given = *_angle_parts(s), *_angle_parts(t)
        blocks = (
            checkpoint(_angle_loss(slice(start, start + at_once)), *given)
            for start in range(0, count, at_once)
        )
        return total(blocks, s.dtype) / count**3

    return _per_sequence(compared, student, teacher, mask, documents, normalizer)


def _per_sequence(
    compared: Callable[[Tensor, Tensor], Tensor],
    student: Tensor,
    teacher: Tensor,
    mask: np.ndarray,
    documents: np.ndarray | None,
    normalizer: int,
) -> Tensor:
    """The sum of `compared` over the sequences / `normalizer`; it sees the rows that count."""
    check_mask(mask, student, teacher)
    found = sequences(mask, documents)
    parts = (compared(student[index], teacher[index]) for index in found)
    return total(parts, student.dtype) / normalizer


def _products(x: Tensor) -> Tensor:
    return x @ ops.transpose(x)  # (n, n)


def _centred(x: Tensor) -> Tensor:
    """Points (n, d) around their mean, which changes no distance and takes least from rounding."""
    return x - ops.mean(x, axis=0, keepdims=True)


def _squared_distances(products: Tensor, sizes: Tensor) -> tuple[Tensor, np.ndarray]:
    """‖x_i − x_j‖² (n, n), and where that is nothing but rounding."""
    pairs = ops.unsqueeze(sizes, 0) + ops.unsqueeze(sizes, 1)
    squares = pairs - 2.0 * products
    return squares, squares.data <= 8 * np.finfo(products.dtype).eps * pairs.data


def _distances(x: Tensor) -> Tensor:
    """‖x_i − x_j‖ (n, n), with gradient 0 where it is 0."""
    x = _centred(x)
    squares, same = _squared_distances(_products(x), ops.sum(x * x, axis=-1))
    return ops.where(same, 0.0, ops.sqrt(ops.where(same, 1.0, squares)))


def _relative(distances: Tensor) -> Tensor:
    """`distances` over the mean of those that are not 0."""
    apart = int(np.count_nonzero(distances.data))
    return distances if apart == 0 else distances / (ops.sum(distances) / apart)


def _angle_parts(x: Tensor) -> tuple[Tensor, Tensor]:
    """Inner products and inverse distances (n, n), 0 for no distance: what angles are made of."""
    x = _centred(x)
    products = _products(x)
    squares, same = _squared_distances(products, ops.sum(x * x, axis=-1))
    inverse = ops.where(same, 0.0, 1.0 / ops.sqrt(ops.where(same, 1.0, squares)))
    return products, inverse


def _angle_loss(vertices: slice) -> Callable[..., Tensor]:
    """The sum of the losses of angles at some vertices, from `_angle_parts` of both models."""

    def loss(products: Tensor, inverse: Tensor, expected: Any, inverse_expected: Any) -> Tensor:
        found = _cosines(products, inverse, vertices)
        return ops.smooth_l1(found, _cosines(expected, inverse_expected, vertices), reduction="sum")

    return loss


def _cosines(products: Tensor, inverse: Tensor, vertices: slice) -> Tensor:
    """⟨x_i − x_j, x_k − x_j⟩ / (‖x_i − x_j‖‖x_k − x_j‖) for j in `vertices`: (j, i, k)."""
    with_vertex = products[vertices]  # (j, n)
    numbers = np.arange(len(products))[vertices]
    own = ops.getitem(products, (numbers, numbers))  # (j,)
    inner = (
        ops.unsqueeze(products, 0)
        - ops.unsqueeze(with_vertex, 2)
        - ops.unsqueeze(with_vertex, 1)
        + ops.unsqueeze(own, (1, 2))
    )  # (j, n, n)
    scale = inverse[vertices]  # (j, n)
    return inner * ops.unsqueeze(scale, 2) * ops.unsqueeze(scale, 1)
