"""A matrix as the nearest one of low rank.

Small matrices are decomposed exactly. Of large ones the range is found by random vectors, with
power iterations: Halko, Martinsson and Tropp 2011, "Finding structure with randomness".
"""

import numpy as np

from entrenar_core import kernels
from entrenar_core.lora.algebra import gram
from entrenar_core.lora.update import Update, row_pieces
from entrenar_core.rng import stream

EXACT = 512
"""Matrices with a side of at most so many elements are decomposed exactly."""

MORE, POWERS = 16, 3
"""How many random vectors more than the rank there are, and how often the matrix is applied."""


def low_rank(matrix: np.ndarray, rank: int, *, seed: int = 0) -> tuple[Update, float]:
    """The update of at most `rank` that is nearest to a float32 `matrix` (out, in), with scale 1,
    and its relative error ‖B·A − M‖/‖M‖, measured.

    The random vectors are a function of the seed and the shape.
    """
    rank = min(rank, *matrix.shape)
    with kernels.one_blas_thread():
        found = _exact(matrix, rank) if min(matrix.shape) <= EXACT else _random(matrix, rank, seed)
    return found, _error(matrix, found)


def _exact(matrix: np.ndarray, rank: int) -> Update:
    u, s, vt = np.linalg.svd(matrix.astype(np.float64), full_matrices=False)
    return _update(u[:, :rank], s[:rank], vt[:rank])


def _random(matrix: np.ndarray, rank: int, seed: int) -> Update:
    outputs, inputs = matrix.shape
    width = min(rank + MORE, outputs, inputs)
    draws = stream(seed, "low rank", outputs, inputs)
    right = draws.standard_normal((inputs, width), np.float32)
    for _ in range(POWERS):
        left = orthonormal(kernels.matmul(matrix, right))
        right = orthonormal(kernels.matmul(matrix, left, trans_a=True))
    left = orthonormal(kernels.matmul(matrix, right))
    core = kernels.matmul(left, matrix, trans_a=True)  # (width, in)
    # the small factor of coreᵀ, whose columns are long
    values, vectors = np.linalg.eigh(gram(core.T))
    order = np.argsort(values)[::-1][:rank]
    s = np.sqrt(np.maximum(values[order], 0))
    u = vectors[:, order]
    safe = np.where(s > 0, s, 1)
    vt = (u.T @ core.astype(np.float64)) / safe[:, None]
    return _update(left.astype(np.float64) @ u, s, vt)


def orthonormal(x: np.ndarray) -> np.ndarray:
    """Columns with the same span as those of x (n, k), orthonormal in float32.

    By the Gram matrix, twice, since once leaves what the condition number makes of rounding; a QR
    of long columns takes ten times as long.
    """
    for _ in range(2):
        values, vectors = np.linalg.eigh(gram(x))
        kept = values > 1e-13 * max(float(values[-1]), 1e-300)
        scale = np.where(kept, 1 / np.sqrt(np.where(kept, values, 1)), 0)
        x = np.ascontiguousarray((x.astype(np.float64) @ (vectors * scale)).astype(np.float32))
    return x


def _update(u: np.ndarray, s: np.ndarray, vt: np.ndarray) -> Update:
    root = np.sqrt(s)
    a = np.ascontiguousarray((root[:, None] * vt).astype(np.float32))
    return Update(a, np.ascontiguousarray((u * root).astype(np.float32)), 1.0)


def _error(matrix: np.ndarray, update: Update) -> float:
    missing = total = 0.0
    for part in row_pieces(matrix):
        piece = matrix[part].astype(np.float64)
        total += float(np.square(piece).sum())
        missing += float(np.square(piece - update.dense(part)).sum())
    return (missing / total) ** 0.5 if total else 0.0
