"""How near the embeddings of models are to their teacher's, as figures over texts."""

from collections.abc import Mapping

import numpy as np

from entrenar_core.rng import stream
from entrenar_distill.intervals import Figure, IntervalMethod, Sample

__all__ = ["PAIRED", "embedding_figures", "spearman"]

PAIRED = 1000
"""Texts at most whose similarities to each other are compared."""


def embedding_figures(
    teacher: np.ndarray,
    found: Mapping[str, np.ndarray],
    projected: Mapping[str, np.ndarray],
    *,
    seed: int,
) -> tuple[IntervalMethod, dict[str, dict[str, Figure | None]]]:
    """Figures of each model in `found`, embeddings (N, d), beside the `teacher`'s (N, D).

    `projected` has those that are in the teacher's space, (N, D): of these the cosines are taken,
    and of `found` the similarities. Of many texts, `seed` decides which are paired.
    """
    names = list(projected)
    cosines = [_cosines(projected[name], teacher) for name in names]
    sample = Sample(np.column_stack([np.ones(len(teacher)), *cosines]), over="texts", seed=seed)
    chosen = _chosen(len(teacher), seed)
    wanted = _similarities(teacher[chosen])
    figures: dict[str, dict[str, Figure | None]] = {}
    for name, embeddings in found.items():
        cosine = None
        if name in names:
            column = 1 + names.index(name)
            cosine = sample.figure(
                lambda sums, column=column: sums[..., column] / sums[..., 0], least=-1.0, most=1.0
            )
        rank = spearman(_similarities(embeddings[chosen]), wanted)
        figures[name] = {"cosine": cosine, "spearman": Figure(rank)}
    return sample.how, figures


def spearman(x: np.ndarray, y: np.ndarray) -> float:
    """The correlation of the ranks of x (N,) and y (N,), equal values sharing their mean rank; NaN
    where all values are equal.

    >>> round(spearman(np.array([1.0, 5.0, 9.0]), np.array([0.1, 0.2, 7.0])), 6)
    1.0
    """
    a, b = _ranks(x), _ranks(y)
    a, b = a - a.mean(), b - b.mean()
    size = np.sqrt((a * a).sum() * (b * b).sum())
    return float((a * b).sum() / size) if size else float("nan")


def _ranks(x: np.ndarray) -> np.ndarray:
    _, places, counts = np.unique(x, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (last - (counts - 1) / 2)[places]


def _cosines(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return (_unit(x) * _unit(y)).sum(axis=1)


def _unit(x: np.ndarray) -> np.ndarray:
    wide = x.astype(np.float64)
    return wide / np.maximum(np.linalg.norm(wide, axis=1, keepdims=True), 1e-12)


def _chosen(count: int, seed: int) -> np.ndarray:
    if count <= PAIRED:
        return np.arange(count)
    bits = stream(seed, "paired texts").bit_generator.random_raw(count)
    return np.sort(np.argsort(bits, kind="stable")[:PAIRED])


def _similarities(x: np.ndarray) -> np.ndarray:
    """The cosine of each pair of rows of x (N, D), once: (N·(N − 1)/2,)."""
    unit = _unit(x)
    return (unit @ unit.T)[np.triu_indices(len(unit), k=1)]
