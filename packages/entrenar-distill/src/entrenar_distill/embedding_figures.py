"""How near the embeddings of models are to their teacher's, as figures over texts."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from entrenar_core.rng import stream
from entrenar_distill.correlations import spearman
from entrenar_distill.intervals import Figure, IntervalMethod, Sample, Statistic, minus

__all__ = ["PAIRED", "EmbeddingFigures", "cosines", "embedding_figures"]

PAIRED = 1000
"""Texts at most whose similarities to each other are compared."""


@dataclass(frozen=True)
class EmbeddingFigures:
    """The figures of each model by name, and the differences of models to one of them by name."""

    how: IntervalMethod
    models: dict[str, dict[str, Figure | None]]
    differences: dict[str, dict[str, Figure]]


def embedding_figures(
    teacher: np.ndarray,
    found: Mapping[str, np.ndarray],
    projected: Mapping[str, np.ndarray],
    *,
    seed: int,
    first: str | None = None,
    together: int = 1,
) -> EmbeddingFigures:
    """Figures of each model in `found`, embeddings (N, d), beside the `teacher`'s (N, D).

    `projected` has those that are in the teacher's space, (N, D): of these the cosines are taken,
    and of `found` the similarities. Of many texts, `seed` decides which are paired. `first` is the
    model that is subtracted in differences. Where a row has `together` texts, N/together apart, it
    is resampled as a whole.
    """
    near = {name: cosines(each, teacher) for name, each in projected.items()}
    sums = [np.full(len(teacher) // together, together)]
    sums += [each.reshape(together, -1).sum(axis=0) for each in near.values()]
    over = "texts" if together == 1 else "pairs"
    sample = Sample(np.column_stack(sums), over=over, seed=seed)
    means = {name: _mean(1 + i) for i, name in enumerate(near)}
    chosen = _chosen(len(teacher), seed)
    wanted = _similarities(teacher[chosen])
    models: dict[str, dict[str, Figure | None]] = {}
    for name, embeddings in found.items():
        cosine = None
        if name in means:
            cosine = sample.figure(means[name], least=-1.0, most=1.0)
        rank = spearman(_similarities(embeddings[chosen]), wanted)
        models[name] = {"cosine": cosine, "spearman": Figure(rank)}
    differences = {
        name: {"cosine": sample.figure(minus(means[name], means[first]))}
        for name in means
        if first in means and name != first
    }
    return EmbeddingFigures(sample.how, models, differences)


def _mean(column: int) -> Statistic:
    return lambda sums: sums[..., column] / sums[..., 0]


def cosines(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The cosine of each row of x (N, D) with the same row of y (N, D): (N,)."""
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
