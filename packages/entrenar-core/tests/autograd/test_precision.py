"""Operations whose matrices are multiplied in bfloat16."""

import numpy as np
import pytest

from entrenar_core import Tensor, ops
from entrenar_core.autograd.checkpoint import checkpoint
from entrenar_core.autograd.precision import BF16, WHOLE, multiplied_in, products
from entrenar_core.kernels.matmul_bf16 import as_bfloat16
from entrenar_core.testing import difference


def drawn(seed, *shape):
    array = np.random.default_rng(seed).standard_normal(shape, np.float32)
    return Tensor(array, requires_grad=True)


def double(array):
    return as_bfloat16(array).astype(np.float64)


def test_matrices_are_multiplied_in_their_own_type_unless_it_is_asked_for():
    assert products() is WHOLE
    with multiplied_in(BF16):
        assert products() is BF16
        with multiplied_in(WHOLE):
            assert products() is WHOLE
        assert products() is BF16
    assert products() is WHOLE


def test_it_is_taken_back_when_an_error_leaves_the_block():
    with pytest.raises(KeyError), multiplied_in(BF16):
        raise KeyError
    assert products() is WHOLE


def test_an_operation_rounds_backwards_too_wherever_backward_is_called():
    x, weight = drawn(0, 40, 30), drawn(1, 20, 30)
    with multiplied_in(BF16):
        y = ops.linear(x, weight)
    g = np.random.default_rng(2).standard_normal(y.shape, np.float32)
    y.backward(g)
    assert difference(y.data, double(x.data) @ double(weight.data).T) <= 1e-6
    assert difference(x.grad, double(g) @ double(weight.data)) <= 1e-6
    assert difference(weight.grad, double(g).T @ double(x.data)) <= 1e-6


def test_what_is_computed_again_is_rounded_again():
    x, weight = drawn(0, 40, 30), drawn(1, 20, 30)

    def both(function):
        x.grad = weight.grad = None
        with multiplied_in(BF16):
            y = function()
        y.backward(np.ones(y.shape, np.float32))
        return y.data, x.grad, weight.grad

    plain = both(lambda: ops.linear(x, weight))
    again = both(lambda: checkpoint(lambda v: ops.linear(v, weight), x))
    assert all(np.array_equal(a, b) for a, b in zip(plain, again, strict=True))


OPERATIONS = {
    "matmul": lambda x, y: ops.matmul(x, y),
    "einsum": lambda x, y: ops.einsum("ij,jk->ik", x, y),
    "conv1d": lambda x, y: ops.conv1d(x, y),
    "gelu_conv1d": lambda x, y: ops.gelu_conv1d(x, y),
    "relu_linear": lambda x, y: ops.relu_linear(x, y.T),
    "swiglu_linear": lambda x, y: ops.swiglu_linear(x, x, y.T),
    "low_rank_linear": lambda x, y: ops.low_rank_linear(x, y.T, y.T[:3], y.T[:, :3], scale=0.5),
    "linear_cross_entropy": lambda x, y: ops.linear_cross_entropy(
        x, y.T, np.arange(40) % 20, normalizer=40
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", OPERATIONS)
def test_every_product_of_a_model_is_rounded_and_stays_near(name):
    x, y = drawn(0, 40, 30), drawn(1, 30, 20)

    def gradients(precision):
        x.grad = y.grad = None
        with multiplied_in(precision):
            z = OPERATIONS[name](x, y)
        z.backward(np.ones(z.shape, np.float32))
        return [z.data, x.grad, y.grad]

    exact, rounded = gradients(WHOLE), gradients(BF16)
    for a, b in zip(exact, rounded, strict=True):
        assert not np.array_equal(a, b)
        cosine = (a * b).sum() / np.linalg.norm(a) / np.linalg.norm(b)
        assert cosine > 0.999


def test_stacks_are_rounded_too():
    x, y = drawn(0, 4, 10, 30), drawn(1, 4, 30, 20)
    with multiplied_in(BF16):
        z = ops.matmul(x, y)
    assert difference(z.data, double(x.data) @ double(y.data)) <= 1e-6
