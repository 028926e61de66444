"""Operations with frozen weights that are held in few bits."""

import numpy as np
import pytest

from entrenar_common.errors import UnsupportedError
from entrenar_core.autograd import Parameter, Tensor, memory_report, ops
from entrenar_core.distill import Divergence
from entrenar_core.kernels import Held
from entrenar_core.quant import quantize
from entrenar_core.testing import difference

FORMS = ["nf4", "int8", "q4_0"]
each_form = pytest.mark.parametrize("form", FORMS)


def normal(*shape):
    return np.random.default_rng(0).standard_normal(shape, np.float32)


def matrix(form, rows, columns):
    return Held(quantize(normal(rows, columns), form))


IDS = np.array([[1, 6], [0, 8]])
TARGETS = np.array([[1, -100], [8, 0]])


def array(weight):
    """What a weight is, as a model has it."""
    return weight.data if isinstance(weight, Tensor) else weight


OPERATIONS = {
    "linear": lambda x, w: ops.linear(x, w, normal(9), normal(2, 2, 9)),
    "conv1d": lambda x, w: ops.conv1d(x, w.T, normal(9), normal(2, 2, 9)),
    "gelu_conv1d": lambda x, w: ops.gelu_conv1d(x, w.T, normal(9)),
    "swiglu_linear": lambda x, w: ops.swiglu_linear(x, x * 2, w),
    "gelu_linear": lambda x, w: ops.gelu_linear(x, w, normal(9)),
    "relu_linear": lambda x, w: ops.relu_linear(x, w),
    "low_rank_linear": lambda x, w: ops.low_rank_linear(
        x, w, normal(3, 64), normal(9, 3), None, normal(9), scale=0.5
    ),
    "low_rank_linear, transposed": lambda x, w: ops.low_rank_linear(
        x, w.T, normal(3, 64), normal(9, 3), scale=0.5, transposed=True
    ),
    "embedding": lambda x, w: x * ops.embedding(w, IDS),
    "linear_cross_entropy": lambda x, w: ops.linear_cross_entropy(x, w, TARGETS, normalizer=3),
    "linear_distillation": lambda x, w: ops.linear_distillation(
        x, w, TARGETS, expected=ops.FromHidden(normal(2, 2, 64), array(w), shared=9),
        divergence=Divergence(temperature=2.0), alpha=0.5, normalizer=3,
        parts=ops.DistillationParts(),
    ),
}  # fmt: skip
"""Of x (2, 2, 64) and a weight (9, 64), each as arrays would have it."""


def outcome(operation, weight):
    x = Tensor(normal(2, 2, 64), requires_grad=True)
    y = operation(x, weight)
    y.backward(np.ones(y.shape, np.float32))
    return y.data, x.grad


@each_form
@pytest.mark.parametrize("name", OPERATIONS)
def test_values_and_gradients_are_those_of_the_dequantized_weight(name, form):
    held = matrix(form, 9, 64)

    def operation(x, w):
        return OPERATIONS[name](x, Wrapped(w) if isinstance(w, Held) else w)

    found, wanted = outcome(operation, held), outcome(operation, np.asarray(held))
    for one, other in zip(found, wanted, strict=True):
        assert one.dtype == np.float32
        assert difference(one, other) <= 1e-6


class Wrapped(Tensor):
    """A frozen weight, whose transpose is one too."""

    @property
    def T(self):
        return Wrapped(self.data.T)


def test_a_weight_that_is_held_never_becomes_a_float32_copy_in_an_operation_that_takes_it(
    monkeypatch,
):
    monkeypatch.setattr(Held, "__array__", None)
    for name, operation in OPERATIONS.items():
        x = Tensor(normal(2, 2, 64), requires_grad=True)
        y = operation(x, Wrapped(matrix("nf4", 9, 64)))
        y.backward(np.ones(y.shape, np.float32))
        assert x.grad is not None, name


def test_other_operations_compute_with_a_copy():
    weight = Tensor(matrix("q4_0", 9, 64))
    wide = weight.numpy()
    assert np.array_equal((weight * 2).data, wide * 2)
    assert np.array_equal(weight[3:5].data, wide[3:5])
    assert np.array_equal(ops.concat([weight, weight]).data, np.concatenate([wide, wide]))
    assert weight.tolist() == wide.tolist()
    assert np.array_equal(np.asarray(weight), wide)


def test_it_cannot_require_a_gradient():
    held = matrix("nf4", 9, 64)
    for make in (Parameter, lambda data: Tensor(data, requires_grad=True)):
        with pytest.raises(UnsupportedError, match=r"\(9, 64\) that is held in few bits"):
            make(held)


@pytest.mark.parametrize("name", [name for name in OPERATIONS if "transposed" not in name])
def test_to_ask_for_its_gradient_all_the_same_is_an_error(name):
    held = matrix("nf4", 9, 64)
    if "conv1d" in name:
        held = held.T
    weight = Tensor(held)
    weight.requires_grad = True
    operation = (lambda x, w: getattr(ops, name)(x, w)) if "conv1d" in name else OPERATIONS[name]
    with pytest.raises(UnsupportedError, match="held in few bits, and has no gradient"):
        operation(Tensor(normal(2, 2, 64)), weight)


def test_the_memory_report_does_not_count_it():
    x, weight = Tensor(normal(2, 64), requires_grad=True), Tensor(matrix("nf4", 9, 64))
    before = memory_report().bytes
    y = ops.linear(x, weight)
    assert memory_report().bytes == before
    assert repr(weight).startswith("Tensor(Held(NF4Array (9, 64)")
    assert y.shape == (2, 9)
