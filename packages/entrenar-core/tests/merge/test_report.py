"""The figures of a merge."""

import numpy as np
import pytest

from entrenar_core.kernels import comparing
from entrenar_core.merge.report import Observed, unrelated


def observed(changes: np.ndarray, base: np.ndarray, merged: np.ndarray) -> Observed:
    products, conflicts = comparing.compare(changes, base, merged)
    return Observed(products, conflicts, base.size, bool(base.any()))


def draw(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def test_effective_weights_of_a_weighted_sum_are_its_weights():
    changes, base = draw(3, 500), draw(500, seed=1)
    merged = base + np.float32([0.2, -0.4, 1.5]) @ changes
    assert observed(changes, base, merged).figures().weights == pytest.approx(
        (0.2, -0.4, 1.5), abs=1e-5
    )


def test_the_figures_are_those_of_vectors():
    changes, base = draw(2, 300), draw(300, seed=1)
    found = observed(changes, base, base + changes[0]).figures()
    a, b = changes.astype(np.float64)
    assert found.norms == pytest.approx((np.linalg.norm(a), np.linalg.norm(b)), rel=1e-6)
    assert found.cosines == pytest.approx(
        (a @ b / np.linalg.norm(a) / np.linalg.norm(b),), abs=1e-6
    )
    assert found.merged_norm == pytest.approx(np.linalg.norm(a), rel=1e-6)
    assert found.base_norm == pytest.approx(np.linalg.norm(base), rel=1e-6)
    assert found.disagreement == (np.sign(a) == -np.sign(b)).mean()


def test_what_is_added_up_is_that_of_all_tensors_together():
    changes, base, merged = draw(2, 300), draw(300, seed=1), draw(300, seed=2)
    first = observed(changes[:, :100].copy(), base[:100].copy(), merged[:100].copy())
    second = observed(changes[:, 100:].copy(), base[100:].copy(), merged[100:].copy())
    whole = observed(changes, base, merged).figures()
    assert (first + second).figures().weights == pytest.approx(whole.weights, rel=1e-4)
    assert (first + second).figures().disagreement == pytest.approx(whole.disagreement)


def test_what_is_kept_in_a_journal_comes_back():
    found = observed(draw(2, 30), draw(30, seed=1), draw(30, seed=2))
    assert Observed.of_plain(found.plain()).figures() == found.figures()


def test_a_model_that_was_not_made_from_the_base_is_flagged():
    base = draw(1000)
    changes = np.stack([0.05 * draw(1000, seed=1), draw(1000, seed=2) - base])
    total = observed(changes, base, base).figures()
    (warning,) = unrelated(["tuned", "other"], total)
    assert warning.startswith("other differs from the base by 1")


def test_without_a_base_models_that_have_nothing_in_common_are_flagged():
    one, other = draw(1000), draw(1000, seed=1)
    models = np.stack([one, one + 0.05 * other, other])
    total = observed(models, np.zeros(1000, np.float32), one).figures()
    assert [w.partition(" do not")[0] for w in unrelated(["a", "b", "c"], total)] == [
        "a and c",
        "b and c",
    ]
