"""`ops.activation`."""

import numpy as np

from entrenar_core.autograd import ops
from op_cases import RNG, away_from_zero, case, normal

SHAPES = ((3, 4), (2, 3, 5), (1,), (1, 1), (), (0, 3), (3, 0))


def _elementwise(name, torch, draw=normal, **options):
    function = getattr(ops, name)
    return [
        case(name, lambda x: function(x, **options), np.asarray(draw(*shape)), torch=torch)
        for shape in SHAPES
    ]


def _moderate(*shape):
    """Where tanh is not so near 1 that a rounding of it shows in its derivative."""
    return RNG.uniform(-2, 2, shape)


def _silu(t, x):
    return t.nn.functional.silu(x)


def _rows(name):
    """A function over an axis: the last, the first, and one in the middle."""
    function = getattr(ops, name)

    def along(axis, *shape):
        return case(
            name,
            lambda x: function(x, axis=axis),
            normal(*shape),
            torch=lambda t, x: getattr(t, name)(x, axis),
        )

    last = [along(-1, *shape) for shape in SHAPES if shape]
    return [*last, along(0, 4, 3), along(1, 2, 4, 3), along(-2, 2, 1, 3), along(1, 3, 5)]


def _swiglu(*shape):
    return case(
        "swiglu",
        ops.swiglu,
        normal(*shape),
        normal(*shape),
        torch=lambda t, gate, up: _silu(t, gate) * up,
    )


def _swiglu_linear(t, gate, up, weight, bias=None, residual=None):
    y = t.nn.functional.linear(_silu(t, gate) * up, weight, bias)
    return y if residual is None else y + residual


def _activated_linear(activation):
    def call(t, x, weight, bias=None, residual=None):
        y = t.nn.functional.linear(activation(t, x), weight, bias)
        return y if residual is None else y + residual

    return call


def _projected(name, torch, draw=normal, inputs=1, **options):
    """A product fused with an activation, with and without bias and residual."""
    function = getattr(ops, name)

    def call(*arrays):
        return function(*arrays, **options)

    before = [draw(2, 3, 5) for _ in range(inputs)]
    return [
        case(name, call, *before, normal(4, 5), torch=torch),
        case(name, call, *before, normal(4, 5), normal(4), torch=torch),
        case(name, call, *before, normal(4, 5), None, normal(2, 3, 4), torch=torch),
        case(name, call, *before, normal(4, 5), normal(4), normal(2, 3, 4), torch=torch),
        case(name, call, *(draw(1, 1) for _ in before), normal(1, 1), normal(1), torch=torch),
        case(name, call, *(draw(0, 5) for _ in before), normal(4, 5), normal(4), torch=torch),
    ]


def _gelu(way):
    return lambda t, x: t.nn.functional.gelu(x, approximate=way)


CASES = [
    *_elementwise("relu", lambda t, x: t.relu(x), away_from_zero),
    *_elementwise(
        "leaky_relu",
        lambda t, x: t.nn.functional.leaky_relu(x, 0.2),
        away_from_zero,
        slope=0.2,
    ),
    *_elementwise("sigmoid", lambda t, x: t.sigmoid(x)),
    *_elementwise("tanh", lambda t, x: t.tanh(x), _moderate),
    *_elementwise("softplus", lambda t, x: t.nn.functional.softplus(x)),
    *_elementwise(
        "softplus",
        lambda t, x: t.nn.functional.softplus(x, 3.0, 2.5),
        away_from_zero,
        beta=3.0,
        threshold=2.5,
    ),
    *_elementwise("silu", _silu),
    *_elementwise("swish", _silu),
    *_elementwise("gelu", _gelu("none")),
    *_elementwise("gelu", _gelu("tanh"), approximate=True),
    *(_swiglu(*shape) for shape in SHAPES),
    *_rows("softmax"),
    *_rows("log_softmax"),
    *_projected("swiglu_linear", _swiglu_linear, inputs=2),
    *_projected("gelu_linear", _activated_linear(_gelu("none")), approximate=False),
    *_projected("gelu_linear", _activated_linear(_gelu("tanh")), approximate=True),
    *_projected("relu_linear", _activated_linear(lambda t, x: t.relu(x)), away_from_zero),
]
