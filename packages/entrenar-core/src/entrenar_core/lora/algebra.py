"""Exact arithmetic of low-rank updates, without their dense products.

For ΔW = s·B·A with B (out, r) and A (r, in), let R_B and R_A be roots of the Gram matrices:
R_BᵀR_B = BᵀB, R_AᵀR_A = AAᵀ. Then B = Q_B·R_B and Aᵀ = Q_A·R_A with orthonormal columns in Q_B and
Q_A, so ΔW has the singular values of the small matrix s·R_B·R_Aᵀ = UΣVᵀ (r, r). Its left singular
vectors are s·B·R_AᵀVΣ⁻¹, its right ones s·Aᵀ·R_BᵀUΣ⁻¹. All of it is in float64, which leaves an
error of 1e-8 of the largest singular value: less than factors in float32 know.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from entrenar_core import kernels
from entrenar_core.lora.update import Update

NOISE = 1e-6
"""Singular values below this share of the largest are rounding of factors in float32."""

ROWS = 256
"""Rows of a factor that are widened to float64 at a time."""

ENERGY = 0.9
"""The share of the energy Σσ² that `energy_rank` asks for unless told otherwise."""


@dataclass(frozen=True)
class Spectrum:
    """The small matrices of one update: u (r, k), the singular values (k,), descending, v (r, k),
    and the roots of the Gram matrices of B and Aᵀ."""

    u: np.ndarray
    values: np.ndarray
    v: np.ndarray
    root_b: np.ndarray
    root_a: np.ndarray


def spectrum(update: Update) -> Spectrum:
    """The singular values of ΔW, and what its singular vectors are made from."""
    with kernels.one_blas_thread():
        root_b, root_a = gram_root(update.b), gram_root(update.a.T)
        u, values, vt = np.linalg.svd(abs(update.scale) * (root_b @ root_a.T))
    return Spectrum(u, values, vt.T, root_b, root_a)


def singular_values(update: Update) -> np.ndarray:
    """The singular values of ΔW, descending: (r,), float64."""
    return spectrum(update).values


def gram_root(factor: np.ndarray) -> np.ndarray:
    """R (r, r) with RᵀR = XᵀX, of a factor X (n, r)."""
    values, vectors = np.linalg.eigh(gram(factor))
    return np.sqrt(np.maximum(values, 0))[:, None] * vectors.T


def gram(factor: np.ndarray) -> np.ndarray:
    """XᵀX (r, r), in float64, of X (n, r).

    A few rows at a time, which stay in the cache.
    """
    found = np.zeros((factor.shape[1],) * 2)
    for start in range(0, len(factor), ROWS):
        piece = factor[start : start + ROWS].astype(np.float64)
        found += piece.T @ piece
    return found


def effective_rank(values: np.ndarray) -> float:
    """e^H, H the entropy of the singular values divided by their sum; 0 where all are 0.

    Source: Roy and Vetterli, "The effective rank", EUSIPCO 2007.

    >>> effective_rank(np.ones(4)), effective_rank(np.array([1.0, 0.0]))
    (4.0, 1.0)
    """
    total = values.sum()
    if not total > 0:
        return 0.0
    shares = values[values > 0] / total
    return round(float(np.exp(-(shares * np.log(shares)).sum())), 12)


def energy_rank(values: np.ndarray, share: float = ENERGY) -> int:
    """How many of the largest singular values have at least `share` of the energy Σσ²."""
    energy = np.cumsum(np.square(values))
    if not len(energy) or not energy[-1] > 0:
        return 0
    return int(np.searchsorted(energy, share * energy[-1] * (1 - 1e-12)) + 1)


def norm(values: np.ndarray) -> float:
    """‖ΔW‖, the Frobenius norm, from the singular values."""
    return float(np.sqrt(np.square(values).sum()))


def truncated(update: Update, rank: int) -> tuple[Update, float]:
    """The best update of at most `rank`, with scale 1, and its relative error ‖ΔW' − ΔW‖/‖ΔW‖.

    B and A get the square roots of the singular values. Bias and lengths of rows stay.
    """
    found = spectrum(update)
    kept = min(rank, len(found.values))
    values = found.values[:kept]
    sign = np.sign(update.scale)
    inverse = np.zeros_like(values)
    certain = values > NOISE * 1e-6 * max(found.values[0], 1e-300)
    inverse[certain] = 1 / np.sqrt(values[certain])
    size = abs(update.scale)
    right = found.root_a.T @ found.v[:, :kept] * (sign * size * inverse)
    left = (size * inverse)[:, None] * (found.u[:, :kept].T @ found.root_b)
    kind = update.a.dtype
    total = norm(found.values)
    error = norm(found.values[kept:]) / total if total else 0.0
    a = (left @ update.a.astype(np.float64)).astype(kind)
    b = (update.b.astype(np.float64) @ right).astype(kind)
    return replace(update, a=a, b=b, scale=1.0), error


def overlap(one: Update, other: Update) -> tuple[float, float]:
    """How much of the spaces of two updates is the same, of outputs and of inputs: from 0,
    orthogonal, to 1, where one space lies in the other.

    φ = ‖U₁ᵀU₂‖²/min(k₁, k₂) of the singular vectors (arXiv:2106.09685 §7.2), those of noise left
    out; 0 where an update is zero.
    """
    first, second = _vectors(one), _vectors(other)
    return _shared(first[0], second[0]), _shared(first[1], second[1])


def _vectors(update: Update) -> tuple[np.ndarray, np.ndarray]:
    """Left and right singular vectors (out, k) and (in, k)."""
    found = spectrum(update)
    kept = found.values > NOISE * max(found.values[0], 1e-300)
    values, size = found.values[kept], abs(update.scale)
    left = update.b.astype(np.float64) @ (found.root_a.T @ found.v[:, kept] * (size / values))
    right = update.a.T.astype(np.float64) @ (found.root_b.T @ found.u[:, kept] * (size / values))
    return left, right


def _shared(one: np.ndarray, other: np.ndarray) -> float:
    least = min(one.shape[1], other.shape[1])
    return float(np.square(one.T @ other).sum() / least) if least else 0.0


def inner(one: Update, other: Update) -> float:
    """⟨ΔW₁, ΔW₂⟩, the sum of the products of their elements."""
    b = one.b.T.astype(np.float64) @ other.b.astype(np.float64)
    a = one.a.astype(np.float64) @ other.a.T.astype(np.float64)
    return float(one.scale * other.scale * (a * b).sum())


def cosine(pairs: Sequence[tuple[Update, Update]], norms: tuple[float, float]) -> float:
    """The cosine of the angle between two adapters, all modules of which are one vector."""
    product = norms[0] * norms[1]
    return sum(inner(one, other) for one, other in pairs) / product if product else 0.0
