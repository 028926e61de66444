"""Modules: names, freezing, first weights, and what each computes."""

import numpy as np
import pytest

from entrenar_core.autograd import Tensor
from entrenar_core.nn import Embedding, LayerNorm, Linear, Module, RMSNorm
from entrenar_core.nn.init import initialise
from entrenar_core.testing import difference

RNG = np.random.default_rng(0)


class Part(Module):
    def __init__(self):
        self.size = 3
        self.first = Linear(3, 4, bias=True, dtype="float64")
        self.norm = RMSNorm(4, eps=1e-5, dtype="float64")


class Whole(Module):
    def __init__(self):
        self.table = Embedding(5, 3, dtype="float64")
        self.parts = [Part(), Part()]
        self.head = Linear(3, 5, bias=False, dtype="float64")
        self.head.weight = self.table.weight


@pytest.fixture
def whole():
    module = Whole()
    initialise(module, 0, 0.1)
    return module


def test_a_parameter_is_named_by_the_way_to_it_and_a_tied_one_once(whole):
    part = ["first.weight", "first.bias", "norm.weight"]
    assert list(whole.named_parameters()) == [
        "table.weight",
        *(f"parts.0.{name}" for name in part),
        *(f"parts.1.{name}" for name in part),
    ]


def test_a_tied_parameter_counts_once(whole):
    assert whole.parameter_count() == 15 + 2 * (12 + 4 + 4)


def test_the_further_names_of_a_tied_parameter_lead_to_its_first(whole):
    assert whole.tied_names() == {"head.weight": "table.weight"}


def test_only_named_parameters_are_drawn_and_their_spread_can_depend_on_the_name(whole):
    before = {name: p.data.copy() for name, p in whole.named_parameters().items()}
    chosen = ["table.weight", "parts.1.first.weight"]
    initialise(whole, 1, lambda name: 100.0 if name == "table.weight" else 1e-6, chosen)
    after = whole.named_parameters()
    assert [n for n in after if not np.array_equal(after[n].data, before[n])] == chosen
    assert 20 < after["table.weight"].data.std() < 300
    assert after["parts.1.first.weight"].data.std() < 1e-5


def test_freezing_reaches_every_parameter(whole):
    whole.freeze()
    assert not any(p.requires_grad for p in whole.parameters())


def test_first_weights_are_normal_for_matrices_one_for_norms_and_zero_for_biases(whole):
    for name, parameter in whole.named_parameters().items():
        if name.endswith("bias"):
            assert not parameter.data.any()
        elif "norm" in name:
            assert np.all(parameter.data == 1)
        else:
            assert 0.02 < parameter.data.std() < 0.3


def test_linear_is_a_product_with_the_transpose(whole):
    layer, x = whole.parts[0].first, RNG.standard_normal((2, 6, 3))
    layer.bias.data[...] = RNG.standard_normal(4)
    residual = RNG.standard_normal((2, 6, 4))
    wanted = x @ layer.weight.data.T + layer.bias.data
    assert (layer.in_features, layer.out_features) == (3, 4)
    assert difference(layer(Tensor(x)).numpy(), wanted) <= 1e-14
    found = layer(Tensor(x), Tensor(residual)).numpy()
    assert difference(found, wanted + residual) <= 1e-14


def test_a_residual_is_not_written_to(whole):
    residual = RNG.standard_normal((6, 4))
    before = residual.copy()
    whole.parts[0].first(Tensor(RNG.standard_normal((6, 3))), Tensor(residual))
    assert np.array_equal(residual, before)


def test_an_embedding_picks_rows(whole):
    ids = np.array([[4, 0], [4, 2]])
    assert np.array_equal(whole.table(ids).numpy(), whole.table.weight.data[ids])


def test_a_layer_norm_has_mean_and_deviation_of_its_parameters():
    norm, x = LayerNorm(4, eps=1e-5, dtype="float64"), RNG.standard_normal((2, 6, 4))
    norm.weight.data[...], norm.bias.data[...] = RNG.standard_normal((2, 4))
    centred = x - x.mean(axis=-1, keepdims=True)
    wanted = centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + 1e-5)
    wanted = wanted * norm.weight.data + norm.bias.data
    assert difference(norm(Tensor(x)).numpy(), wanted) <= 1e-14


def test_a_norm_divides_by_the_root_of_the_mean_square(whole):
    norm, x = whole.parts[0].norm, RNG.standard_normal((2, 6, 4))
    norm.weight.data[...] = RNG.standard_normal(4)
    wanted = x / np.sqrt((x**2).mean(axis=-1, keepdims=True) + 1e-5) * norm.weight.data
    assert difference(norm(Tensor(x)).numpy(), wanted) <= 1e-14
