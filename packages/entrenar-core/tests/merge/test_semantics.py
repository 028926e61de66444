"""TIES and DARE as their papers and as PEFT define them."""

import numpy as np
import pytest

from entrenar_common.errors import ConfigError
from entrenar_core.merge.elected import whole_model
from entrenar_core.merge.group import Group, Held
from entrenar_core.merge.tensor import merge_arrays

WEIGHTS, DENSITY, FACTOR = [0.3, 0.6, 0.4], 0.4, 0.8


def changes(*shape: int, models: int = 3) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.standard_normal(shape, np.float32) for _ in range(models)]


def merged(name: str, models: list[np.ndarray], **settings) -> np.ndarray:
    base = np.zeros_like(models[0])
    return merge_arrays(name, models, base=base, settings={"weight": 1.0, **settings})


def ties_of_the_authors(flat: np.ndarray, density: float) -> np.ndarray:
    """Flattened models (n, size): the algorithm of the paper's code, with sorts."""
    size = flat.shape[1]
    least = np.sort(np.abs(flat), axis=1)[:, size - int(size * density) - 1, None]
    flat = np.where(np.abs(flat) >= least, flat, 0)
    sign = np.sign(flat.sum(0))
    sign[sign == 0] = np.sign(sign.sum())
    chosen = np.where(np.sign(flat) == sign, flat, 0)
    return chosen.sum(0) / np.maximum((chosen != 0).sum(0), 1)


def test_ties_of_the_paper_is_that_of_its_authors():
    models = changes(37, 11)
    found = merged("ties", models, density=0.2, semantics="paper", **{"lambda": FACTOR})
    wanted = FACTOR * ties_of_the_authors(np.stack([m.reshape(-1) for m in models]), 0.2)
    np.testing.assert_allclose(found.reshape(-1), wanted, rtol=1e-6)


def test_ties_of_the_paper_trims_all_tensors_of_a_model_together():
    first, second = changes(20, 5), [10 * x for x in changes(30)]
    groups = [
        Group([Held(x) for x in models], Held(np.zeros_like(models[0])), np.dtype(np.float32))
        for models in (first, second)
    ]
    whole = whole_model(groups, (0.1, 0.3, 1.0))
    flat = [np.abs(np.concatenate([a.reshape(-1), b])) for a, b in zip(first, second, strict=True)]
    wanted = [np.sort(flat[0])[130 - 13 - 1], np.sort(flat[1])[130 - 39 - 1], -1]
    assert whole.least == pytest.approx(wanted, rel=1e-7)


def test_where_changes_cancel_the_paper_takes_the_sign_of_most_elements():
    up, down = np.float32([1, 2, 3, 4]), np.float32([-1, 2, 3, 4])
    assert merged("ties", [up, down], semantics="paper")[0] == 1
    assert merged("ties", [-up, -down], semantics="paper")[0] == -1


def test_the_papers_have_no_weights():
    for name in ("ties", "dare_ties"):
        with pytest.raises(ConfigError, match="has no weights"):
            merged(name, changes(3), weight=[1, 2, 1], semantics="paper")


def test_no_other_semantics():
    with pytest.raises(ConfigError, match="no semantics are called 'pfet'"):
        merged("ties", changes(3), semantics="pfet")


@pytest.mark.parametrize("semantics", ["paper", "peft"])
def test_dare_divides_what_it_keeps_by_the_density(semantics):
    (model,) = changes(50, 40, models=1)
    found = merged("dare_linear", [model], density=0.25, semantics=semantics)
    kept = found != 0
    np.testing.assert_allclose(found[kept], model[kept] * 4, rtol=1e-6)
    assert kept.mean() == pytest.approx(0.25, abs=4 * np.sqrt(0.25 * 0.75 / model.size))


def test_the_mean_of_dare_ties_of_peft_counts_what_was_kept():
    models = [np.abs(model) for model in changes(200)]  # all signs agree
    found = merged("dare_ties", models, density=0.5, semantics="peft")
    linear = merged("dare_linear", models, density=0.5, semantics="peft")  # the same draws
    alone = [
        merged("dare_linear", [m if m is model else np.zeros_like(m) for m in models],
               density=0.5, semantics="peft") != 0
        for model in models
    ]  # fmt: skip
    counts = np.maximum(np.sum(alone, axis=0), 1)
    np.testing.assert_allclose(found, linear / counts, rtol=1e-6)


@pytest.mark.parity
def test_ties_of_peft_is_pefts():
    torch = pytest.importorskip("torch")
    from peft.utils.merge_utils import ties

    models = changes(37, 11)
    wanted = ties([torch.tensor(m) for m in models], torch.tensor(WEIGHTS), DENSITY)
    found = merged("ties", models, weight=WEIGHTS, density=DENSITY, semantics="peft")
    np.testing.assert_array_equal(found, wanted.numpy())


@pytest.mark.parity
@pytest.mark.parametrize("name", ["dare_ties", "dare_linear"])
def test_dare_of_peft_is_pefts_with_the_same_draws(name, monkeypatch):
    torch = pytest.importorskip("torch")
    from peft.utils import merge_utils

    models = changes(37, 11)
    masks = iter(
        merged("dare_linear", [np.ones_like(m) if m is model else np.zeros_like(m) for m in models],
               density=DENSITY, semantics="peft") != 0
        for model in models
    )  # fmt: skip
    monkeypatch.setattr(torch, "bernoulli", lambda _chances: torch.tensor(next(masks)).float())
    function = getattr(merge_utils, name)
    wanted = function([torch.tensor(m) for m in models], torch.tensor(WEIGHTS), DENSITY)
    found = merged(name, models, weight=WEIGHTS, density=DENSITY, semantics="peft")
    np.testing.assert_allclose(found, wanted.numpy(), rtol=1e-6, atol=1e-7)
