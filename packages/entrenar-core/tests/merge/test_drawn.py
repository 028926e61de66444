"""What methods that draw keep, and what becomes of it."""

from math import sqrt

import numpy as np
import pytest

from drawn_masks import DENSITY, EPSILON, masks
from entrenar_core.merge.tensor import merge_arrays
from mergekit_arrays import related

SHAPE, FLOAT32 = (120, 257), np.dtype(np.float32)


@pytest.mark.parametrize("method", ["dare_linear", "della_linear"])
def test_as_many_elements_are_kept_as_the_density_says(method):
    """Within four standard deviations of a binomial's mean, for each of three models."""
    base, models = related(SHAPE, 3, dtype=FLOAT32)
    for kept, density in zip(masks(method, base, models, FLOAT32), DENSITY, strict=True):
        deviation = sqrt(base.size * density * (1 - density))
        assert abs(kept.sum() - base.size * density) <= 4 * deviation


def test_chances_grow_with_the_rank_in_the_row():
    """The kept of the largest and of the smallest tenth of each row, of the chances d ± ε."""
    base, models = related((2000, 100), 3, dtype=FLOAT32)
    kept = masks("della", base, models, FLOAT32)
    for mask, model, density, epsilon in zip(kept, models, DENSITY, EPSILON, strict=True):
        ordered = np.take_along_axis(mask, np.argsort(np.abs(model - base), axis=1), axis=1)
        ranks = np.arange(100) / 99
        for part in (slice(0, 10), slice(45, 55), slice(90, 100)):
            chance = (density - epsilon + 2 * epsilon * ranks[part]).mean()
            deviation = sqrt(chance * (1 - chance) / (2000 * 10))
            assert abs(ordered[:, part].mean() - chance) <= 4 * deviation


@pytest.mark.parametrize("method", ["dare_linear", "della_linear"])
def test_rescaled_task_vectors_keep_the_sum_of_their_magnitudes(method):
    base, (model,) = related(SHAPE, 1, dtype=FLOAT32)
    settings = {"weight": 1.0, "density": 0.4}
    found = merge_arrays(method, [model], base=base, settings=settings).astype(np.float64)
    kept = found != base
    wanted = np.abs(model.astype(np.float64) - base).sum()
    assert np.abs(found - base)[kept].sum() == pytest.approx(wanted, rel=1e-5)


def test_dare_keeps_the_mean_of_a_task_vector_and_its_norm_grows():
    """E[d'] = d, and E‖d'‖² = ‖d‖²/density, for draws that do not depend on d."""
    base, (model,) = related((1000, 300), 1, dtype=FLOAT32)
    base, model = np.zeros_like(base), np.abs(model - base) + np.float32(0.01)
    settings = {"weight": 1.0, "density": 0.25}
    found = merge_arrays("dare_linear", [model], base=base, settings=settings).astype(np.float64)
    assert found.mean() == pytest.approx(model.mean(), rel=1e-5)
    grown = (found**2).sum() / (model.astype(np.float64) ** 2).sum()
    assert grown == pytest.approx(4, rel=0.02)


def test_draws_differ_by_seed_tensor_and_model():
    base, (model,) = related(SHAPE, 1, dtype=FLOAT32)
    settings = {"weight": 1.0, "density": 0.5}

    def kept(models, **which):
        found = merge_arrays("dare_linear", models, base=base, settings=settings, **which)
        return found != base

    plain = kept([model], key="a", seed=1)
    assert np.array_equal(plain, kept([model], key="a", seed=1))
    for other in ({"key": "b", "seed": 1}, {"key": "a", "seed": 2}):
        assert 0.45 < (plain == kept([model], **other)).mean() < 0.55
    second = merge_arrays(
        "dare_linear", [base, model], base=base, settings=settings, key="a", seed=1
    )
    assert 0.45 < (plain == (second != base)).mean() < 0.55
