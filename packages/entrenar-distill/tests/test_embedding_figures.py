"""Figures of embeddings: against closed forms."""

import numpy as np
import pytest

from entrenar_distill.correlations import spearman
from entrenar_distill.embedding_figures import PAIRED, embedding_figures


def test_ranks_of_equal_values_are_shared():
    """1 − 6Σd²/(n³ − n) is for ranks without ties; with them it is the correlation of the ranks."""
    x, y = np.array([1.0, 2.0, 2.0, 4.0]), np.array([3.0, 3.0, 1.0, 9.0])
    ranks = np.array([1, 2.5, 2.5, 4]), np.array([2.5, 2.5, 1, 4])
    assert spearman(x, y) == pytest.approx(np.corrcoef(*ranks)[0, 1], rel=1e-12)


def test_the_correlation_without_ties_is_that_of_squared_differences_of_ranks():
    rng = np.random.default_rng(0)
    a, b = rng.permutation(50), rng.permutation(50)
    wanted = 1 - 6 * ((a - b) ** 2).sum() / (50**3 - 50)
    assert spearman(np.exp(a / 9), b**3.0) == pytest.approx(wanted, rel=1e-12)


def test_what_does_not_vary_has_no_correlation():
    assert np.isnan(spearman(np.zeros(4), np.arange(4.0)))


def test_a_model_that_turns_the_space_keeps_the_similarities_and_not_the_cosines():
    rng = np.random.default_rng(1)
    teacher = rng.normal(size=(40, 6))
    turn, _ = np.linalg.qr(rng.normal(size=(6, 6)))
    found = {"student": teacher @ turn, "before training": 3 * teacher}
    result = embedding_figures(teacher, found, found, seed=0)
    how, figures = result.how, result.models
    assert (how.over, how.count) == ("texts", 40)
    assert figures["before training"]["cosine"].value == pytest.approx(1)
    assert figures["before training"]["spearman"].value == pytest.approx(1)
    assert figures["student"]["spearman"].value == pytest.approx(1)
    unit = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in (teacher, teacher @ turn)]
    cosines = (unit[0] * unit[1]).sum(1)
    cosine = figures["student"]["cosine"]
    assert cosine.value == pytest.approx(cosines.mean())
    error = cosines.std(ddof=1) / np.sqrt(40)
    assert cosine.high - cosine.low == pytest.approx(2 * 1.96 * error, rel=0.15)


def test_a_model_that_is_not_projected_has_no_cosine():
    rng = np.random.default_rng(1)
    teacher, narrow = rng.normal(size=(30, 6)), rng.normal(size=(30, 4))
    figures = embedding_figures(teacher, {"before training": narrow}, {}, seed=0).models
    assert figures["before training"]["cosine"] is None
    assert abs(figures["before training"]["spearman"].value) < 0.3


def test_of_many_texts_some_are_paired():
    rng = np.random.default_rng(1)
    teacher = rng.normal(size=(PAIRED + 50, 4))
    both = {"student": teacher}
    figures = embedding_figures(teacher, both, both, seed=0).models
    assert figures["student"]["spearman"].value == pytest.approx(1)
