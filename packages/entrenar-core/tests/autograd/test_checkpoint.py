"""Activation checkpointing gives the same numbers with less held."""

import gc
import weakref

import numpy as np
import pytest

from entrenar_core import nn
from entrenar_core.autograd import Parameter, Tensor, checkpoint, no_grad, op, ops
from entrenar_core.testing import check_grads


def normal(*shape):
    return np.random.default_rng(0).standard_normal(shape)


def test_the_gradient_is_that_of_the_function():
    x, w = normal(3, 4), normal(5, 4)
    check_grads(lambda x, w: checkpoint(ops.linear, x, w) * 2.0 + x.sum(), x, w)


def test_parameters_inside_the_function_get_their_gradients():
    weight, x = Parameter(normal(5, 4)), Tensor(normal(3, 4), requires_grad=True)

    def gradients(call):
        weight.grad = x.grad = None
        call(lambda v: ops.linear(v * v, weight), x).sum().backward()
        return weight.grad, x.grad

    plain = gradients(lambda function, v: function(v))
    again = gradients(checkpoint)
    assert all(np.array_equal(a, b) for a, b in zip(plain, again, strict=True))


def test_parameters_get_gradients_where_no_input_needs_one():
    weight = Parameter(normal(5, 4))
    x = Tensor(normal(3, 4))
    checkpoint(lambda v: ops.linear(v, weight), x).sum().backward()
    assert np.array_equal(weight.grad, np.broadcast_to(x.data.sum(axis=0), (5, 4)))


def test_gradients_add_to_what_a_parameter_has():
    weight = Parameter(np.ones(2))
    (checkpoint(lambda v: v * weight, Tensor(np.ones(2))) + weight).sum().backward()
    assert weight.grad.tolist() == [2.0, 2.0]


def test_checkpoints_can_be_nested():
    check_grads(lambda x: checkpoint(lambda v: checkpoint(ops.mul, v, v) * v, x), normal(4))


def test_inputs_that_need_no_gradient_pass_through():
    x = Tensor(normal(3), requires_grad=True)
    checkpoint(
        lambda v, factor, constant: v * factor + constant, x, 3.0, normal(3)
    ).sum().backward()
    assert x.grad.tolist() == [3.0, 3.0, 3.0]


def test_an_input_that_does_not_matter_has_gradient_zero():
    x, y = (Tensor(normal(3), requires_grad=True) for _ in range(2))
    (checkpoint(lambda a, b: a * 2.0, x, y)).sum().backward()
    assert (x.grad.tolist(), y.grad.tolist()) == ([2.0] * 3, [0.0] * 3)


def test_nothing_is_recorded_for_what_leads_to_nothing_trained():
    x = Tensor(normal(3))
    assert not checkpoint(ops.mul, x, x).requires_grad
    trained = Tensor(normal(3), requires_grad=True)
    with no_grad():
        assert not checkpoint(ops.mul, trained, trained).requires_grad


def test_what_the_function_computes_on_the_way_is_not_kept():
    held = []

    @op
    def kept(x):
        inner = x * 1
        held.append(weakref.ref(inner))
        return inner * 2, (lambda g: g * 2 + 0 * inner,)

    x = Tensor(normal(3), requires_grad=True)
    y = checkpoint(kept, x)
    gc.collect()
    assert held[0]() is None
    y.sum().backward()
    assert len(held) == 2


def test_dropout_inside_drops_the_same_elements_again():
    layer, x = nn.Dropout(0.5), Tensor(np.ones(1000), requires_grad=True)
    with nn.dropout(seed=0, step=3):
        y = checkpoint(lambda v: layer(v) * 1.0, x)
        after = layer(x)
    y.sum().backward()
    assert np.array_equal(x.grad, y.data)
    assert not np.array_equal(after.data, y.data)


@pytest.mark.parametrize("recompute", [False, True])
def test_dropout_is_the_same_with_and_without_checkpointing(recompute):
    layer, x = nn.Dropout(0.5), Tensor(np.ones(100))
    call = checkpoint if recompute else (lambda function, v: function(v))
    with nn.dropout(seed=0, step=3):
        first, second = call(layer, x), call(layer, x)
    with nn.dropout(seed=0, step=3):
        assert np.array_equal(layer(x).data, first.data)
        assert np.array_equal(layer(x).data, second.data)
