"""Every differentiable operation against central differences in float64."""

import importlib
import pkgutil

import numpy as np
import pytest

from entrenar_core.autograd import Tensor, op, ops
from entrenar_core.autograd.ops import loss
from entrenar_core.testing import check_grads, difference

RNG = np.random.default_rng(0)


def normal(*shape):
    return RNG.standard_normal(shape)


def away_from_zero(*shape):
    return RNG.uniform(0.5, 2.0, shape) * RNG.choice([-1.0, 1.0], shape)


def angles(time, half):
    a = normal(time, half)
    return np.cos(a), np.sin(a)


COS, SIN = angles(5, 3)
IDS = np.array([[3, 0, 3], [6, 3, 1]])  # with a repeated row
LABELS = np.array([[4, -100, 0], [-100, 6, 4]])


def cross_entropy(hidden, weight):
    return ops.linear_cross_entropy(hidden, weight, LABELS, normalizer=4)


def distillation(temperature, alpha, shared, teacher_rows):
    teacher_hidden, teacher_weight = normal(2, 3, 5), normal(teacher_rows, 5)

    def call(hidden, weight):
        return ops.linear_distillation(
            hidden, weight, teacher_hidden, teacher_weight, LABELS,
            temperature=temperature, alpha=alpha, shared=shared, normalizer=4,
            parts=ops.DistillationParts(),
        )  # fmt: skip

    return call


def attention(q, k, v):
    return ops.attention(q, k, v, scale=0.7)


def norm(x, weight):
    return ops.rms_norm(x, weight, eps=1e-3)


CASES = {
    "add": [
        (ops.add, normal(3, 4), normal(3, 4)),
        (ops.add, normal(2, 1, 4), normal(3, 1)),
        (ops.add, normal(), normal(2, 3)),
    ],
    "sub": [(ops.sub, normal(3, 4), normal(4)), (ops.sub, normal(1, 1), normal(2, 3))],
    "mul": [(ops.mul, normal(3, 4), normal(4)), (ops.mul, normal(2, 1, 4), normal(3, 1))],
    "div": [
        (ops.div, normal(3, 4), away_from_zero(4)),
        (ops.div, normal(), away_from_zero(2, 3)),
    ],
    "sum": [
        (lambda x: ops.sum(x), normal(2, 3, 4)),
        (lambda x: ops.sum(x, axis=1), normal(2, 3, 4)),
        (lambda x: ops.sum(x, axis=(0, -1)), normal(2, 3, 4)),
        (lambda x: ops.sum(x, axis=-1, keepdims=True), normal(2, 3, 4)),
    ],
    "mean": [
        (lambda x: ops.mean(x), normal(2, 3, 4)),
        (lambda x: ops.mean(x, axis=(0, 2)), normal(2, 3, 4)),
        (lambda x: ops.mean(x, axis=0, keepdims=True), normal(2, 3, 4)),
    ],
    "reshape": [(lambda x: ops.reshape(x, (4, -1)), normal(2, 3, 4))],
    "linear": [
        (ops.linear, normal(2, 3, 4), normal(5, 4)),
        (ops.linear, normal(3, 4), normal(5, 4), normal(5)),
        (ops.linear, normal(2, 3, 4), normal(5, 4), normal(5), normal(2, 3, 5)),
        (ops.linear, normal(1, 1), normal(1, 1), None, normal(1, 1)),
    ],
    "embedding": [(lambda w: ops.embedding(w, IDS), normal(7, 4))],
    "rms_norm": [(norm, normal(2, 3, 5), normal(5)), (norm, normal(1, 1), normal(1))],
    "swiglu_linear": [
        (ops.swiglu_linear, normal(2, 3, 5), normal(2, 3, 5), normal(4, 5)),
        (ops.swiglu_linear, normal(3, 5), normal(3, 5), normal(4, 5), normal(4), normal(3, 4)),
    ],
    "rope": [(lambda x: ops.rope(x, COS, SIN), normal(2, 5, 3, 6))],
    "attention": [
        (attention, normal(2, 5, 3, 4), normal(2, 5, 3, 4), normal(2, 5, 3, 4)),
        (attention, normal(2, 5, 6, 4), normal(2, 5, 2, 4), normal(2, 5, 2, 4)),
        (attention, normal(1, 3, 4, 2), normal(1, 7, 1, 2), normal(1, 7, 1, 2)),
    ],
    "linear_cross_entropy": [(cross_entropy, normal(2, 3, 4), normal(7, 4))],
    "linear_distillation": [
        (distillation(1.0, 0.5, 7, 7), normal(2, 3, 4), normal(7, 4)),
        (distillation(3.0, 1.0, 7, 9), normal(2, 3, 4), normal(7, 4)),
        (distillation(0.5, 0.0, 6, 6), normal(2, 3, 4), normal(7, 4)),
        (distillation(2.0, 0.9, 5, 8), normal(2, 3, 4), normal(7, 4)),
    ],
}


def operations():
    """Every function made by `@op` in the modules of `ops`, found by looking, not by a list."""
    found = {}
    for module in pkgutil.iter_modules(ops.__path__):
        names = vars(importlib.import_module(f"{ops.__name__}.{module.name}"))
        found |= {
            name: value
            for name, value in names.items()
            if getattr(value, "__code__", None) is MADE_BY_OP.__code__
        }
    return found


@op
def identity(x):
    return x * 1, (lambda g: g,)


MADE_BY_OP = identity


EVERY_CASE = pytest.mark.parametrize(
    ("function", "inputs"),
    [
        pytest.param(function, inputs, id=f"{name}-{i}")
        for name, cases in CASES.items()
        for i, (function, *inputs) in enumerate(cases)
    ],
)


@EVERY_CASE
def test_the_gradient_is_the_central_difference(function, inputs):
    check_grads(function, *inputs)


@EVERY_CASE
def test_the_gradient_is_right_where_inputs_are_used_elsewhere_too(function, inputs):
    # gradients then meet at nodes, where vjps add to what has arrived before, before or after
    def call(*tensors):
        nodes = [x if x is None else x * 1.0 for x in tensors]
        total = function(*nodes).sum()
        for node in nodes:
            total = total if node is None else total + (node * node).sum()
        return total

    check_grads(call, *inputs)


@EVERY_CASE
@pytest.mark.parametrize("buffered", [False, True])
def test_two_walks_add_up_to_twice_the_gradient(function, inputs, buffered):
    leaves = [x if x is None else Tensor(x, requires_grad=True) for x in inputs]
    present = [leaf for leaf in leaves if leaf is not None]
    for leaf in present:
        leaf.grad_buffer = np.full(leaf.shape, np.nan) if buffered else None
    function(*leaves).sum().backward()
    once = [leaf.grad.copy() for leaf in present]
    function(*leaves).sum().backward()
    for leaf, gradient in zip(present, once, strict=True):
        assert difference(leaf.grad, 2 * gradient) <= 1e-15
        assert not buffered or leaf.grad is leaf.grad_buffer


def test_every_operation_is_checked():
    assert operations().keys() == CASES.keys()


def test_every_operation_is_public():
    assert all(getattr(ops, name) is function for name, function in operations().items())


@pytest.mark.parametrize("chunk", [1, 2, 4])
@pytest.mark.parametrize("name", ["linear_cross_entropy", "linear_distillation"])
def test_losses_in_several_chunks_have_the_right_gradient(name, chunk, monkeypatch):
    monkeypatch.setattr(loss, "CHUNK", chunk)
    function, *inputs = CASES[name][0]
    check_grads(function, *inputs)


@pytest.mark.parametrize("name", ["linear_cross_entropy", "linear_distillation"])
def test_a_loss_inside_a_larger_expression_has_the_right_gradient(name):
    function, *inputs = CASES[name][-1]
    check_grads(lambda h, w: function(h, w) * 3.0 + (h * h).sum() + (w * w).sum(), *inputs)


def test_an_input_used_twice_in_one_linear_has_the_right_gradient():
    check_grads(lambda x: ops.linear(x, x, None, x), normal(4, 4))
    check_grads(lambda x: ops.attention(x, x, x, scale=0.7), normal(2, 5, 3, 4))
    check_grads(lambda x, w: ops.swiglu_linear(x, x, w, None, x), normal(3, 5), normal(5, 5))


def test_operators_are_operations():
    x, y = normal(3, 4), away_from_zero(3, 4)
    check_grads(lambda a, b: (-(a + 2.0 * b - a / b) * 3 + 1).reshape((4, 3)).mean(axis=0), x, y)
    check_grads(lambda a: (1.0 - a) + (2.0 / a), y)


# --- check_grads itself --------------------------------------------------------------------------


@op
def wrong_second(x, y):
    return x * y, (lambda g: g * y, lambda g: g * x * 1.0001)


@op
def wrong_shape(x):
    return x.sum(), (lambda g: np.ones((1, *x.shape)) * g,)


@op
def destructive(x):
    x *= 2
    return x.copy(), (lambda g: g * 2,)


def test_check_grads_finds_a_wrong_gradient():
    with pytest.raises(AssertionError, match=r"inputs \(1,\)"):
        check_grads(wrong_second, normal(3), normal(3))


def test_check_grads_finds_an_operation_that_changes_its_input():
    with pytest.raises(AssertionError, match="changes its input 0"):
        check_grads(destructive, normal(3))


def test_check_grads_finds_a_gradient_that_is_missing():
    with pytest.raises(AssertionError, match=r"no gradient reaches inputs \(1,\)"):
        check_grads(lambda x, y: ops.add(x, Tensor(y.data)), normal(3), normal(3))


def test_check_grads_needs_something_to_differentiate():
    with pytest.raises(AssertionError, match="no input"):
        check_grads(lambda i: Tensor(i), 3)
