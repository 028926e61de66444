"""AdamW and its clipping against closed forms."""

import math

import numpy as np
import pytest

from entrenar_common.errors import CheckpointError
from entrenar_core.autograd import Parameter, Tensor, ops
from entrenar_core.optim import AdamW
from entrenar_core.testing import difference, tiny_llama


def parameters(dtype="float64"):
    rng = np.random.default_rng(0)
    shapes = {"matrix": (3, 5), "bias": (7,), "table": (2, 3)}
    return {name: Parameter(rng.standard_normal(s).astype(dtype)) for name, s in shapes.items()}


def give(members, seed, scale=1.0):
    rng = np.random.default_rng(seed)
    for parameter in members.values():
        parameter.grad = (rng.standard_normal(parameter.shape) * scale).astype(parameter.dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_constant_gradient_moves_by_the_learning_rate_each_step(dtype):
    # m/(1−β₁ᵗ) = g and v/(1−β₂ᵗ) = g² for every t, so the update is −lr·sign(g) up to ε
    weight = Parameter(np.array([[1.0, -2.0]], dtype))
    optimizer = AdamW({"w": weight}, weight_decay=0.0, eps=1e-12)
    for _ in range(10):
        weight.grad = np.array([[0.3, -0.7]], dtype)
        optimizer.step(0.01)
    assert difference(weight.data, [[0.9, -1.9]]) <= {"float32": 2e-6, "float64": 1e-10}[dtype]


def test_without_gradient_only_the_decay_acts_and_only_on_matrices():
    members = parameters()
    before = {name: p.data.copy() for name, p in members.items()}
    optimizer = AdamW(members, weight_decay=0.1)
    for _ in range(3):
        optimizer.step(0.5)
    for name, parameter in members.items():
        shrunk = before[name] * (0.95**3 if parameter.data.ndim >= 2 else 1.0)
        assert difference(parameter.data, shrunk) <= 1e-15


def test_which_parameters_decay_can_be_chosen():
    members = parameters()
    before = {name: p.data.copy() for name, p in members.items()}
    AdamW(members, weight_decay=0.1, decays=lambda name, _: name == "bias").step(1.0)
    changed = {n for n, p in members.items() if not np.array_equal(p.data, before[n])}
    assert changed == {"bias"}


def test_the_norm_is_that_of_all_gradients_together():
    members = parameters()
    optimizer = AdamW(members)
    give(members, 1)
    flat = np.concatenate([p.grad.ravel() for p in members.values()])
    assert optimizer.gradient_norm() == pytest.approx(math.sqrt((flat**2).sum()), rel=1e-14)


def test_clipping_is_a_step_with_the_scaled_gradient():
    clipped, scaled = parameters(), parameters()
    a, b = AdamW(clipped, eps=1e-2), AdamW(scaled, eps=1e-2)
    for seed in range(5):
        give(clipped, seed)
        norm = a.step(0.1, max_norm=0.25)
        give(scaled, seed, scale=0.25 / (norm + 1e-6))
        b.step(0.1)
    for name in clipped:
        assert difference(clipped[name].data, scaled[name].data) <= 1e-13


def test_a_small_gradient_is_not_scaled_up():
    clipped, plain = parameters(), parameters()
    for members, options in ((clipped, {"max_norm": 1e6}), (plain, {})):
        optimizer = AdamW(members, eps=1e-2)
        give(members, 0)
        optimizer.step(0.1, **options)
    assert all(np.array_equal(clipped[name].data, plain[name].data) for name in clipped)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_gradient_that_is_not_finite_changes_nothing(bad, dtype):
    members = parameters(dtype)
    optimizer = AdamW(members)
    give(members, 0)
    optimizer.step(0.1)
    before = {n: p.data.copy() for n, p in members.items()}
    moments = {n: view.copy() for n, view in optimizer.state().items()}
    give(members, 1)
    members["bias"].grad[3] = bad
    assert not math.isfinite(optimizer.step(0.1, max_norm=1.0))
    assert optimizer.steps == 1
    assert all(np.array_equal(members[n].data, before[n]) for n in members)
    assert all(np.array_equal(view, moments[n]) for n, view in optimizer.state().items())


def test_a_frozen_parameter_is_left_alone():
    members = parameters()
    members["matrix"].requires_grad = False
    memory = members["matrix"].data
    optimizer = AdamW(members)
    optimizer.step(0.5)
    assert members["matrix"].data is memory
    assert not any("matrix" in name for name in optimizer.state())


def test_the_model_computes_with_the_updated_weights():
    members = parameters()
    optimizer = AdamW(members, weight_decay=0.0)
    loss = ops.linear(Tensor(np.ones((2, 5))), members["matrix"]).sum()
    loss.backward()
    optimizer.step(0.5)
    after = ops.linear(Tensor(np.ones((2, 5))), members["matrix"]).sum()
    assert after.item() == pytest.approx(loss.item() - 0.5 * 2 * 15, rel=1e-6)


def test_a_tied_weight_is_updated_once():
    model = tiny_llama(tie_word_embeddings=True)
    AdamW(model.named_parameters())
    assert model.lm_head.weight.data is model.model.embed_tokens.weight.data


def test_a_restored_optimizer_continues_to_the_bit():
    straight, resumed = parameters(), parameters()
    a = AdamW(straight)
    for seed in range(6):
        give(straight, seed)
        a.step(0.1)
    b = AdamW(resumed)
    for seed in range(3):
        give(resumed, seed)
        b.step(0.1)
    saved = {name: view.copy() for name, view in b.state().items()}
    fresh = {name: Parameter(p.data.copy()) for name, p in resumed.items()}
    c = AdamW(fresh)
    c.restore(saved, b.steps)
    for seed in range(3, 6):
        give(fresh, seed)
        c.step(0.1)
    assert all(np.array_equal(fresh[name].data, straight[name].data) for name in straight)


@pytest.mark.parametrize("change", ["missing", "extra", "shape"])
def test_the_state_of_another_model_is_refused(change):
    optimizer = AdamW(parameters())
    state = {name: view.copy() for name, view in optimizer.state().items()}
    if change == "missing":
        state.pop("adamw.m.bias")
    elif change == "extra":
        state["adamw.m.other"] = np.zeros(3)
    else:
        state["adamw.v.bias"] = np.zeros(8)
    with pytest.raises(CheckpointError, match="another model"):
        optimizer.restore(state, 3)


def test_gradients_that_nobody_has_set_count_as_zero():
    members = parameters()
    optimizer = AdamW(members, weight_decay=0.0)
    before = members["matrix"].data.copy()
    members["bias"].grad = np.ones(7)
    assert optimizer.step(0.1) == pytest.approx(math.sqrt(7))
    assert np.array_equal(members["matrix"].data, before)
