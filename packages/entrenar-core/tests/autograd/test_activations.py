"""Activations against their formulas written out in float64, at kinks and far out."""

import math

import numpy as np
import pytest

from entrenar_common.errors import ShapeError
from entrenar_core.autograd import Tensor, ops
from entrenar_core.testing import difference

X = np.array([-30.0, -3.5, -1.0, -0.25, 0.0, 0.125, 1.0, 2.5, 30.0])
BOUNDS = {"float32": 1e-6, "float64": 1e-12}


def sigma(x):
    return 1 / (1 + np.exp(-x))


def cdf(x):
    return np.array([math.erfc(-v / math.sqrt(2)) / 2 for v in x])


def density(x):
    return np.exp(-x * x / 2) / math.sqrt(2 * math.pi)


def inner(x):
    return math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)


def slope_of_inner(x):
    return math.sqrt(2 / math.pi) * (1 + 3 * 0.044715 * x**2)


def tanh_gelu_slope(x):
    t = np.tanh(inner(x))
    return (1 + t) / 2 + x / 2 * (1 - t * t) * slope_of_inner(x)


# name, options, value, derivative
FORMULAS = {
    "relu": ("relu", {}, lambda x: np.where(x > 0, x, 0), lambda x: 1.0 * (x > 0)),
    "leaky relu": (
        "leaky_relu",
        {},
        lambda x: np.where(x > 0, x, 0.01 * x),
        lambda x: np.where(x > 0, 1, 0.01),
    ),
    "leaky relu, other slope": (
        "leaky_relu",
        {"slope": 0.3},
        lambda x: np.where(x > 0, x, 0.3 * x),
        lambda x: np.where(x > 0, 1, 0.3),
    ),
    "sigmoid": ("sigmoid", {}, sigma, lambda x: sigma(x) * sigma(-x)),
    "tanh": ("tanh", {}, np.tanh, lambda x: np.cosh(x) ** -2),
    "softplus": (
        "softplus",
        {},
        lambda x: np.where(x > 20, x, np.log1p(np.exp(x))),
        lambda x: np.where(x > 20, 1, sigma(x)),
    ),
    "softplus, other beta": (
        "softplus",
        {"beta": 2.0, "threshold": 3.0},
        lambda x: np.where(2 * x > 3, x, np.log1p(np.exp(2 * x)) / 2),
        lambda x: np.where(2 * x > 3, 1, sigma(2 * x)),
    ),
    "silu": ("silu", {}, lambda x: x * sigma(x), lambda x: sigma(x) + x * sigma(x) * sigma(-x)),
    "gelu": ("gelu", {}, lambda x: x * cdf(x), lambda x: cdf(x) + x * density(x)),
    "gelu, tanh": (
        "gelu",
        {"approximate": True},
        lambda x: x * (1 + np.tanh(inner(x))) / 2,
        tanh_gelu_slope,
    ),
}


def value_and_gradient(function, x, dtype, g=None, **options):
    leaf = Tensor(x.astype(dtype), requires_grad=True)
    y = function(leaf, **options)
    y.backward(np.ones(y.shape) if g is None else g)
    return y.data, leaf.grad


@pytest.mark.parametrize("dtype", BOUNDS)
@pytest.mark.parametrize("formula", FORMULAS)
def test_value_and_derivative_are_those_of_the_formula(formula, dtype):
    name, options, value, slope = FORMULAS[formula]
    g = np.linspace(-1, 2, len(X))
    found, gradient = value_and_gradient(getattr(ops, name), X, dtype, g, **options)
    assert difference(found, value(X)) <= BOUNDS[dtype]
    assert difference(gradient, g * slope(X)) <= BOUNDS[dtype]


@pytest.mark.parametrize("name", ["relu", "leaky_relu", "sigmoid", "tanh", "softplus", "silu"])
def test_nan_stays_nan(name):
    found, gradient = value_and_gradient(getattr(ops, name), np.array([1.0, np.nan]), "float64")
    assert np.isnan(found).tolist() == [False, True]
    if name not in ("relu", "leaky_relu"):
        assert np.isnan(gradient).tolist() == [False, True]


@pytest.mark.parametrize("dtype", BOUNDS)
@pytest.mark.parametrize("name", ["sigmoid", "tanh", "softplus", "silu", "gelu"])
def test_far_out_nothing_overflows(name, dtype):
    x = np.array([-1e4, -800.0, -90.0, 90.0, 800.0, 1e4])
    found, gradient = value_and_gradient(getattr(ops, name), x, dtype)
    limit = {"sigmoid": np.sign(x) / 2 + 0.5, "tanh": np.sign(x)}.get(name, np.maximum(x, 0))
    slope = {"sigmoid": 0 * x, "tanh": 0 * x}.get(name, 1.0 * (x > 0))
    assert np.abs(found - limit).max() <= 1e-30
    assert np.abs(gradient - slope).max() <= 1e-30


@pytest.mark.parametrize(("x", "linear"), [(19.9, False), (20.1, True)])
def test_softplus_is_linear_beyond_twenty(x, linear):
    value, gradient = value_and_gradient(ops.softplus, np.array([x]), "float64")
    assert (value[0] == x) == linear
    assert (gradient[0] == 1) == linear


def softmax(x, axis):
    e = np.exp(x - x.max(axis=axis, keepdims=True))
    return e / e.sum(axis=axis, keepdims=True)


@pytest.mark.parametrize("dtype", BOUNDS)
@pytest.mark.parametrize("axis", [0, 1, 2, -1, -2, -3])
def test_softmax_and_its_gradient_are_those_of_the_formula(axis, dtype):
    rng = np.random.default_rng(0)
    x, g = 4 * rng.standard_normal((3, 5, 33)), rng.standard_normal((3, 5, 33))
    p = softmax(x.astype(dtype).astype("float64"), axis)
    found, gradient = value_and_gradient(ops.softmax, x, dtype, g, axis=axis)
    assert difference(found, p) <= BOUNDS[dtype]
    inner = (g * p).sum(axis=axis, keepdims=True)
    assert difference(gradient, p * (g - inner)) <= 2 * BOUNDS[dtype]
    found, gradient = value_and_gradient(ops.log_softmax, x, dtype, g, axis=axis)
    assert difference(found, np.log(p)) <= BOUNDS[dtype]
    assert difference(gradient, g - p * g.sum(axis=axis, keepdims=True)) <= 2 * BOUNDS[dtype]


@pytest.mark.parametrize("dtype", BOUNDS)
def test_softmax_is_along_the_last_axis_unless_told_otherwise(dtype):
    x = Tensor(np.arange(6.0).reshape(2, 3).astype(dtype))
    assert np.array_equal(ops.softmax(x).data, ops.softmax(x, axis=1).data)
    assert np.array_equal(ops.log_softmax(x).data, ops.log_softmax(x, axis=1).data)


@pytest.mark.parametrize("dtype", BOUNDS)
def test_softmax_of_large_numbers_does_not_overflow(dtype):
    x = np.array([[1e4, 1e4 - 1, -1e4]])
    found, _ = value_and_gradient(ops.softmax, x, dtype)
    assert difference(found, [[sigma(1.0), sigma(-1.0), 0]]) <= BOUNDS[dtype]
    found, _ = value_and_gradient(ops.log_softmax, x, dtype)
    assert difference(found[0, :2], np.log([sigma(1.0), sigma(-1.0)])) <= BOUNDS[dtype]


@pytest.mark.parametrize("dtype", BOUNDS)
def test_what_is_masked_by_minus_infinity_gets_exactly_nothing(dtype):
    x = np.array([[0.0, -np.inf, 1.0]])
    found, gradient = value_and_gradient(ops.softmax, x, dtype, np.array([[1.0, 2.0, 3.0]]))
    assert found[0, 1] == gradient[0, 1] == 0
    assert difference(found[0, [0, 2]], [sigma(-1.0), sigma(1.0)]) <= BOUNDS[dtype]
    assert ops.log_softmax(Tensor(x.astype(dtype))).data[0, 1] == -np.inf


def test_an_axis_that_is_not_there_is_an_error_that_names_the_operation():
    with pytest.raises(ShapeError, match="softmax"):
        ops.softmax(Tensor(np.ones((2, 3))), axis=2)


@pytest.mark.parametrize("dtype", BOUNDS)
def test_swiglu_and_its_gradients_are_those_of_the_formula(dtype):
    up, g = np.linspace(-2, 3, len(X)), np.linspace(1, -1, len(X))
    leaves = [Tensor(a.astype(dtype), requires_grad=True) for a in (X, up)]
    y = ops.swiglu(*leaves)
    y.backward(g)
    slope = sigma(X) + X * sigma(X) * sigma(-X)
    assert difference(y.data, X * sigma(X) * up) <= BOUNDS[dtype]
    assert difference(leaves[0].grad, g * up * slope) <= BOUNDS[dtype]
    assert difference(leaves[1].grad, g * X * sigma(X)) <= BOUNDS[dtype]


def test_gate_and_up_of_swiglu_do_not_broadcast():
    with pytest.raises(ShapeError, match=r"swiglu: float32 \(2, 3\), float32 \(3,\)"):
        ops.swiglu(Tensor(np.ones((2, 3), np.float32)), Tensor(np.ones(3, np.float32)))


FUSED = {
    "swiglu_linear": (2, {}, lambda gate, up: ops.swiglu(gate, up)),
    "gelu_linear": (1, {"approximate": False}, lambda x: ops.gelu(x)),
    "gelu_linear, tanh": (1, {"approximate": True}, lambda x: ops.gelu(x, approximate=True)),
    "relu_linear": (1, {}, lambda x: ops.relu(x)),
}


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("name", FUSED)
def test_a_fused_product_is_the_activation_and_then_the_product(name, frozen):
    count, options, activation = FUSED[name]
    rng = np.random.default_rng(0)
    before = [rng.standard_normal((2, 3, 5)) for _ in range(count)]
    weight, bias, residual = (rng.standard_normal(shape) for shape in ((4, 5), 4, (2, 3, 4)))

    def run(function):
        leaves = [Tensor(a.copy(), requires_grad=True) for a in (*before, bias, residual)]
        matrix = Tensor(weight, requires_grad=not frozen)
        y = function(leaves[:count], matrix, *leaves[count:])
        y.backward(np.arange(24.0).reshape(2, 3, 4))
        return [y.data, *(leaf.grad for leaf in leaves), matrix.grad]

    fused = run(lambda xs, *rest: getattr(ops, name.partition(",")[0])(*xs, *rest, **options))
    apart = run(lambda xs, *rest: ops.linear(activation(*xs), *rest))
    assert (fused[-1] is None) == frozen
    for found, wanted in zip(fused, apart, strict=True):
        assert found is wanted is None or difference(found, wanted) <= 1e-14


def test_a_fused_product_leaves_its_input_and_the_gradient_as_they_were():
    x = Tensor(np.random.default_rng(0).standard_normal((3, 5)), requires_grad=True)
    weight = Tensor(np.eye(5), requires_grad=True)
    before, g = x.data.copy(), np.ones((3, 5))
    ops.gelu_linear(x, weight, None, None).backward(g)
    assert np.array_equal(x.data, before)
    assert np.array_equal(g, np.ones((3, 5)))
