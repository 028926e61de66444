"""Parameters with and without memory."""

import numpy as np

from entrenar_core import nn


def test_a_parameter_without_memory_has_shape_and_dtype():
    with nn.shapes_only():
        layer = nn.Linear(10**6, 10**7, bias=True, dtype="float64")
    assert layer.weight.shape == (10**7, 10**6)
    assert layer.weight.dtype == np.float64
    assert layer.weight.requires_grad
    assert layer.bias is not None
    assert layer.bias.shape == (10**7,)


def test_outside_a_parameter_has_memory_of_its_own():
    with nn.shapes_only():
        pass
    parameter = nn.new_parameter((2, 3), "float32")
    parameter.data[...] = np.arange(6).reshape(2, 3)
    assert parameter.data.ravel().tolist() == [0, 1, 2, 3, 4, 5]
