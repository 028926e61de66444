"""Matrices as nearest ones of low rank."""

import numpy as np
import pytest

from entrenar_core.lora import factorise
from entrenar_core.lora.factorise import low_rank, orthonormal


def decaying(outputs, inputs, *, rate):
    """Singular values e^(−rate·k), and the matrix."""
    rng, size = np.random.default_rng(0), min(outputs, inputs)
    q, _ = np.linalg.qr(rng.standard_normal((outputs, size)))
    p, _ = np.linalg.qr(rng.standard_normal((inputs, size)))
    values = np.exp(-rate * np.arange(size))
    return values, ((q * values) @ p.T).astype(np.float32)


@pytest.mark.parametrize("exact", [512, 0], ids=["exact", "random"])
@pytest.mark.parametrize("shape", [(60, 90), (90, 60)])
def test_the_error_is_what_the_best_one_has(monkeypatch, exact, shape):
    monkeypatch.setattr(factorise, "EXACT", exact)
    values, matrix = decaying(*shape, rate=0.05)
    found, error = low_rank(matrix, 10)
    best = np.sqrt((values[10:] ** 2).sum() / (values**2).sum())
    assert error == pytest.approx(best, rel=1e-3)
    missing = np.linalg.norm(found.b @ found.a - matrix) / np.linalg.norm(matrix)
    assert error == pytest.approx(missing, rel=1e-4)


@pytest.mark.parametrize("exact", [512, 0], ids=["exact", "random"])
def test_a_matrix_of_the_rank_is_found_whole(monkeypatch, exact):
    monkeypatch.setattr(factorise, "EXACT", exact)
    rng = np.random.default_rng(0)
    matrix = rng.standard_normal((80, 3), np.float32) @ rng.standard_normal((3, 70), np.float32)
    found, error = low_rank(matrix, 8)
    assert found.rank == 8
    assert error < 1e-5


def test_a_rank_is_at_most_that_of_the_matrix():
    found, error = low_rank(np.eye(4, 3, dtype=np.float32), 9)
    assert found.rank == 3
    assert error < 1e-6


def test_zero_is_its_own_approximation(monkeypatch):
    monkeypatch.setattr(factorise, "EXACT", 0)
    found, error = low_rank(np.zeros((40, 50), np.float32), 4)
    assert error == 0
    assert np.isfinite(found.a).all()


def test_orthonormal_columns_of_a_badly_conditioned_matrix():
    _, matrix = decaying(200, 12, rate=0.8)  # condition number 7,000
    q = orthonormal(matrix)
    assert np.abs(q.T @ q - np.eye(12)).max() < 1e-5
