"""Operations that are told of with the module that they are of."""

import numpy as np
import pytest

from entrenar_common.errors import ShapeError
from entrenar_core import Tensor
from entrenar_core.autograd import checkpoint, ops
from entrenar_core.autograd.observe import watching_operations
from entrenar_core.nn import Linear, Module, watching_modules


class Part(Module):
    def __init__(self):
        self.inner = linear()

    def __call__(self, x):
        return ops.relu(self.inner(x)) * 2.0


class Whole(Module):
    def __init__(self):
        self.parts = [Part(), Part()]
        self.head = linear()

    def __call__(self, x):
        for part in self.parts:
            x = part(x)
        return self.head(x)


def linear():
    made = Linear(3, 3, bias=False, dtype="float32")
    made.weight.data[...] = np.eye(3)
    return made


def watched(function, models):
    calls = []
    with watching_operations(calls.append), watching_modules(models):
        function()
    return [(call.place, call.name, call.direction) for call in calls]


X = np.ones((2, 3), "float32")


def test_an_operation_is_of_the_innermost_module_that_was_called():
    model = Whole()
    assert watched(lambda: model(Tensor(X)).sum(), {"m": model}) == [
        ("m.parts.0.inner", "linear", "forward"), ("m.parts.0", "relu", "forward"),
        ("m.parts.0", "mul", "forward"),
        ("m.parts.1.inner", "linear", "forward"), ("m.parts.1", "relu", "forward"),
        ("m.parts.1", "mul", "forward"),
        ("m.head", "linear", "forward"), ("", "sum", "forward"),
    ]  # fmt: skip


def test_the_way_back_is_of_the_module_of_the_way_there():
    model = Whole()
    told = watched(lambda: model(Tensor(X)).sum().backward(), {"m": model})
    there = [(p, n) for p, n, direction in told if direction == "forward"]
    back = [(p, n) for p, n, direction in told if direction == "backward"]
    assert back == there[::-1]


def test_what_is_computed_again_is_of_its_module_too():
    model = Part()
    told = watched(lambda: checkpoint(model, Tensor(X)).sum().backward(), {"m": model})
    assert told.count(("m.inner", "linear", "forward")) == 2
    assert told.count(("m.inner", "linear", "backward")) == 1


def test_models_are_told_apart_and_others_have_no_place():
    first, second, other = linear(), linear(), linear()
    models = {"first": first, "second": second}
    told = watched(lambda: [m(Tensor(X)) for m in (first, second, other)], models)
    assert [place for place, *_ in told] == ["first", "second", ""]


def test_afterwards_the_classes_are_what_they_were():
    before = [vars(c).get("__call__") for c in (Linear, *Linear.__mro__, Part, Whole)]
    model = Whole()
    with pytest.raises(ShapeError):
        watched(lambda: model(Tensor(np.ones((2, 4), "float32"))), {"m": model})
    assert [vars(c).get("__call__") for c in (Linear, *Linear.__mro__, Part, Whole)] == before
    assert watched(lambda: model(Tensor(X)), {})[0][0] == ""
