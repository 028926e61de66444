"""Rounding that lets gradients through, against its definition."""

import numpy as np

from entrenar_core.autograd import Tensor, ops


def test_values_are_rounded_with_halves_to_the_even_integer():
    x = Tensor(np.array([-2.5, -1.5, -0.4, 0.5, 0.6, 1.5, 2.5, 7.0]))
    assert ops.round_ste(x).data.tolist() == [-2.0, -2.0, -0.0, 0.0, 1.0, 2.0, 2.0, 7.0]


def test_the_gradient_is_that_of_the_identity():
    x = Tensor(np.array([-2.5, 0.2, 3.7], np.float32), requires_grad=True)
    ops.round_ste(x).backward(np.array([1.0, -2.0, 3.0]))
    assert x.grad.tolist() == [1.0, -2.0, 3.0]
