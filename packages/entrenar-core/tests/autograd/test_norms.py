"""Normalisations against their formulas written out in float64."""

import numpy as np
import pytest

from entrenar_common.errors import ShapeError
from entrenar_core.autograd import Tensor, ops
from entrenar_core.testing import difference

BOUNDS = {"float32": 1e-6, "float64": 1e-12}
EPS = 0.1  # large enough to matter


@pytest.fixture(params=BOUNDS)
def dtype(request):
    return request.param


def arrays(*shapes):
    rng = np.random.default_rng(0)
    return [rng.standard_normal(shape) for shape in shapes]


def leaves_of(dtype, *values):
    return [None if v is None else Tensor(v.astype(dtype), requires_grad=True) for v in values]


def test_layer_norm_and_its_gradients_are_those_of_the_formula(dtype):
    x, weight, bias, g = arrays((3, 4, 19), 19, 19, (3, 4, 19))
    leaves = leaves_of(dtype, x, weight, bias)
    y = ops.layer_norm(*leaves, eps=EPS)
    y.backward(g)
    sigma = np.sqrt(((x - x.mean(-1, keepdims=True)) ** 2).mean(-1, keepdims=True) + EPS)
    normed = (x - x.mean(-1, keepdims=True)) / sigma
    assert difference(y.data, weight * normed + bias) <= BOUNDS[dtype]
    # the Jacobian of a row written out: (δ − 1/D − x̂x̂ᵀ/D)/σ
    for place in np.ndindex(3, 4):
        n, s = normed[place], sigma[place][0]
        jacobian = (np.eye(19) - 1 / 19 - np.outer(n, n) / 19) / s
        wanted = jacobian @ (g[place] * weight)
        assert difference(leaves[0].grad[place], wanted) <= 2 * BOUNDS[dtype]
    assert difference(leaves[1].grad, (g * normed).sum((0, 1))) <= BOUNDS[dtype]
    assert difference(leaves[2].grad, g.sum((0, 1))) <= BOUNDS[dtype]


def test_rms_norm_and_its_gradients_are_those_of_the_formula(dtype):
    x, weight, g = arrays((3, 4, 19), 19, (3, 4, 19))
    leaves = leaves_of(dtype, x, weight)
    y = ops.rms_norm(*leaves, eps=EPS)
    y.backward(g)
    r = np.sqrt((x * x).mean(-1, keepdims=True) + EPS)
    assert difference(y.data, weight * x / r) <= BOUNDS[dtype]
    for place in np.ndindex(3, 4):
        n = x[place] / r[place]
        jacobian = (np.eye(19) - np.outer(n, n) / 19) / r[place]
        wanted = jacobian @ (g[place] * weight)
        assert difference(leaves[0].grad[place], wanted) <= 2 * BOUNDS[dtype]
    assert difference(leaves[1].grad, (g * x / r).sum((0, 1))) <= BOUNDS[dtype]


@pytest.mark.parametrize("with_weight", [False, True])
@pytest.mark.parametrize("with_bias", [False, True])
def test_a_layer_norm_without_weight_or_bias_is_one_with_ones_and_zeros(
    dtype, with_weight, with_bias
):
    x, weight, bias, g = arrays((5, 7), 7, 7, (5, 7))
    given = leaves_of(dtype, x, weight if with_weight else None, bias if with_bias else None)
    full = leaves_of(
        dtype, x, weight if with_weight else np.ones(7), bias if with_bias else np.zeros(7)
    )
    y, wanted = ops.layer_norm(*given, eps=EPS), ops.layer_norm(*full, eps=EPS)
    y.backward(g)
    wanted.backward(g)
    assert difference(y.data, wanted.data) <= BOUNDS[dtype]
    for found, leaf in zip(given, full, strict=True):
        assert found is None or difference(found.grad, leaf.grad) <= BOUNDS[dtype]


def test_rows_of_one_element_give_the_bias_and_no_gradient(dtype):
    x, weight, bias = arrays((6, 1), 1, 1)
    leaves = leaves_of(dtype, x, weight, bias)
    y = ops.layer_norm(*leaves, eps=1e-5)
    y.backward(np.arange(6.0)[:, None])
    assert np.array_equal(y.data, np.broadcast_to(leaves[2].data, (6, 1)))
    assert not leaves[0].grad.any()


def test_a_layer_norm_far_from_zero_keeps_its_digits(dtype):
    (x,) = arrays((4, 64))
    shifted = (x + 1000).astype(dtype).astype("float64")
    centred = shifted - shifted.mean(-1, keepdims=True)
    wanted = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + EPS)
    found = ops.layer_norm(Tensor((x + 1000).astype(dtype)), eps=EPS).data
    assert difference(found, wanted) <= 1e-4 if dtype == "float32" else 1e-12


@pytest.mark.parametrize("rows", [1, 3, 4, 31, 64, 65])
def test_the_number_of_rows_does_not_matter_to_the_sums_over_them(rows, dtype):
    x, weight, g = arrays((rows, 5), 5, (rows, 5))
    leaves = leaves_of(dtype, x, weight)
    ops.rms_norm(*leaves, eps=EPS).backward(g)
    r = np.sqrt((x * x).mean(-1, keepdims=True) + EPS)
    assert difference(leaves[1].grad, (g * x / r).sum(0)) <= 2 * BOUNDS[dtype]


@pytest.mark.parametrize("name", ["layer_norm", "rms_norm"])
@pytest.mark.parametrize("size", [1, 6])
def test_a_weight_of_another_size_is_an_error_that_shows_both_shapes(name, size):
    x, weight = (Tensor(np.ones(shape, np.float32)) for shape in ((2, 5), size))
    with pytest.raises(ShapeError, match=rf"{name}: float32 \(2, 5\), float32 \({size},\)"):
        getattr(ops, name)(x, weight, eps=EPS)
