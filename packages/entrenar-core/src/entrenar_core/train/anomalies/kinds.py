"""The kinds of steps that a training has, by k-means, and how unlike all of them a step is."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from entrenar_core.rng import stream

__all__ = ["Kinds"]

Floats = npt.NDArray[np.float64]

_ITERATIONS, _TRIMS = 20, 3
_LEAST, _SHARE = 10, 0.05
"""A cluster of fewer steps, or of a smaller share of them, is no kind but outliers: a fault that
has just begun must not become a kind by a fit that sees its first steps."""
_RADIUS = 1.0
"""The radius of a kind is no less, in spreads of a figure: steps that are all alike would be
unlike a next one that differs by nothing."""


@dataclass(frozen=True)
class Kinds:
    """Centroids (K, F) of the kinds and how far half of the members of each are from it, (K,).

    Steps differ in kind where batches do: long and short ones, say. The median of all is then the
    commonest kind's, and a z-score takes every other for an anomaly; the distance to the nearest
    centroid does not.

    Source: Lloyd, "Least squares quantization in PCM", 1982, from centroids as Arthur and
    Vassilvitskii draw them (k-means++, 2007). That small clusters are outliers and large ones are
    not is the idea of He, Xu and Deng, "Discovering cluster-based local outliers", 2003.
    """

    centroids: Floats
    radii: Floats

    @classmethod
    def of(cls, vectors: Floats, most: int, *, seed: int, fit: int) -> "Kinds":
        """At most `most` kinds of `vectors` (N, F), figures in units of their spread. The same
        numbers give the same kinds; `fit` counts the fits of a training."""
        least = max(_LEAST, _SHARE * len(vectors))
        kept, trims = vectors, 0
        while True:
            random = stream(seed, "kinds of steps", fit, trims)
            centroids, nearest = _lloyd(kept, _spread_out(kept, most, random))
            counts = np.bincount(nearest, minlength=len(centroids))
            large = counts >= min(least, counts.max())
            inside = large[nearest]
            kept, nearest, trims = kept[inside], nearest[inside], trims + 1
            if large.all() or trims == _TRIMS:
                break
        distances = np.linalg.norm(kept - centroids[nearest], axis=1)
        radii = [max(_RADIUS, np.median(distances[nearest == k])) for k in np.flatnonzero(large)]
        return cls(centroids[large], np.array(radii))

    def outlier_score(self, vector: Floats) -> float:
        """The distance to a kind's centroid as a multiple of the kind's radius, of the kind where
        it is least: half of a kind's steps have less than 1."""
        return float(np.min(np.linalg.norm(self.centroids - vector, axis=1) / self.radii))


def _spread_out(vectors: Floats, most: int, random: np.random.Generator) -> Floats:
    """Vectors to begin with, each drawn with the square of its distance to those before."""
    chosen = [int(random.integers(len(vectors)))]
    squares = np.full(len(vectors), np.inf)
    for _ in range(most - 1):
        squares = np.minimum(squares, ((vectors - vectors[chosen[-1]]) ** 2).sum(1))
        total = squares.sum()
        if total == 0:  # there are no more different ones
            break
        chosen.append(int(random.choice(len(vectors), p=squares / total)))
    return vectors[chosen]


def _lloyd(vectors: Floats, centroids: Floats) -> tuple[Floats, npt.NDArray[np.int64]]:
    """Centroids where they no longer move, or nearly, and the nearest of each vector."""
    nearest = _nearest(vectors, centroids)
    for _ in range(_ITERATIONS):
        members = nearest == np.arange(len(centroids))[:, None]  # (K, N)
        counts = members.sum(1, keepdims=True)
        centroids = np.where(counts, members @ vectors / np.maximum(counts, 1), centroids)
        before, nearest = nearest, _nearest(vectors, centroids)
        if np.array_equal(nearest, before):
            break
    return centroids, nearest


def _nearest(vectors: Floats, centroids: Floats) -> npt.NDArray[np.int64]:
    return ((vectors[:, None] - centroids) ** 2).sum(2).argmin(1)  # (N, K) → (N,)
