"""Every differentiable operation against central differences in float64."""

import importlib
import inspect
import pkgutil

import numpy as np
import pytest

from entrenar_core.autograd import Tensor, op, ops
from entrenar_core.autograd.ops import compare, linear_loss
from entrenar_core.testing import check_grads, difference
from op_cases import all_cases, away_from_zero, normal
from op_kinks import KINKS

CASES = all_cases()


def made_by_op():
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


def operations():
    """The names of all public functions of `ops` that have gradients."""
    return {
        name
        for name, value in vars(ops).items()
        if inspect.isfunction(value)
        and value.__module__.startswith(f"{ops.__name__}.")
        and value.__module__ != compare.__name__
    }


@op
def identity(x):
    return x * 1, (lambda g: g,)


MADE_BY_OP = identity


def is_float(value):
    return isinstance(value, np.ndarray) and value.dtype.kind == "f"


EVERY_CASE = pytest.mark.parametrize(
    "case", [pytest.param(c, id=f"{c.op}-{i}") for i, c in enumerate(CASES)]
)


def first(name):
    return next(case for case in CASES if case.op == name)


@EVERY_CASE
def test_the_gradient_is_the_central_difference(case):
    check_grads(case.call, *case.inputs)


@pytest.mark.tier2
@EVERY_CASE
def test_the_gradient_is_right_where_inputs_are_used_elsewhere_too(case):
    # gradients then meet at nodes, where vjps add to what has arrived before, before or after
    def call(*tensors):
        nodes = [x * 1.0 if isinstance(x, Tensor) else x for x in tensors]
        total = case.call(*nodes).sum()
        for node in nodes:
            total = total + (node * node).sum() if isinstance(node, Tensor) else total
        return total

    check_grads(call, *case.inputs)


@pytest.mark.tier2
@EVERY_CASE
@pytest.mark.parametrize("buffered", [False, True])
def test_two_walks_add_up_to_twice_the_gradient(case, buffered):
    leaves = [Tensor(x, requires_grad=True) if is_float(x) else x for x in case.inputs]
    present = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
    for leaf in present:
        leaf.grad_buffer = np.full(leaf.shape, np.nan) if buffered else None
    case.call(*leaves).sum().backward()
    once = [leaf.grad.copy() for leaf in present]
    case.call(*leaves).sum().backward()
    for leaf, gradient in zip(present, once, strict=True):
        assert difference(leaf.grad, 2 * gradient) <= 1e-15
        assert not buffered or leaf.grad is leaf.grad_buffer


LAYOUTS = {
    "columns first": lambda x: np.asfortranarray(x) if x.ndim else x,
    "every second element": lambda x: np.repeat(x, 2, axis=-1)[..., ::2] if x.ndim else x,
    "backwards": lambda x: np.ascontiguousarray(x[::-1])[::-1] if x.ndim else x,
}


def results(case, dtype, arrange=np.array):
    """The value of a call and the gradients of a weighted sum of it, of arrays laid out so."""
    leaves = [
        Tensor(arrange(x.astype(dtype)), requires_grad=True) if is_float(x) else x
        for x in case.inputs
    ]
    y = case.call(*leaves)
    y.backward(np.random.default_rng(1).standard_normal(y.shape))
    return [y.data, *(leaf.grad for leaf in leaves if isinstance(leaf, Tensor))]


@pytest.mark.tier2
@EVERY_CASE
@pytest.mark.parametrize(("dtype", "bound"), [("float64", 1e-14), ("float32", 1e-6)])
def test_the_layout_of_inputs_in_memory_changes_nothing(case, dtype, bound):
    plain = results(case, dtype)
    for layout, arrange in LAYOUTS.items():
        for found, wanted in zip(results(case, dtype, arrange), plain, strict=True):
            assert difference(found, wanted) <= bound, layout


@pytest.mark.tier2
@EVERY_CASE
def test_float32_goes_in_and_float32_comes_out(case):
    for found, wanted in zip(results(case, "float32"), results(case, "float64"), strict=True):
        assert (found.dtype, wanted.dtype) == (np.float32, np.float64)
        assert difference(found, wanted) <= 1e-5


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # NumPy's, for the infinities
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kink", KINKS, ids=lambda kink: kink.name)
def test_where_there_is_no_derivative_the_gradient_is_the_documented_one(kink, dtype):
    leaves = [Tensor(np.array(x, dtype), requires_grad=True) for x in kink.inputs]
    kink.call(*leaves).sum().backward()
    for leaf, wanted in zip(leaves, kink.gradients, strict=True):
        assert leaf.grad.dtype == dtype
        assert difference(leaf.grad, wanted) <= 1e-7


def test_the_gradient_of_a_power_of_zero_takes_no_logarithm_of_it():
    """NumPy would warn, and warnings are errors here."""
    x, y = Tensor([0.0, 2.0]), Tensor([3.0, 3.0], requires_grad=True)
    ops.pow(x, y).sum().backward()
    assert y.grad.tolist() == pytest.approx([0, 8 * np.log(2)], rel=1e-6)


def test_logsumexp_of_large_numbers_has_the_precision_of_small_ones():
    x = Tensor([1000.0, 1000.0], requires_grad=True)
    y = ops.logsumexp(x)
    y.backward()
    assert y.item() == pytest.approx(1000 + np.log(2), rel=1e-7)
    assert x.grad.tolist() == [0.5, 0.5]


def test_logsumexp_of_nothing_is_minus_infinity():
    assert ops.logsumexp(Tensor(np.zeros((2, 0))), axis=1).tolist() == [-np.inf, -np.inf]


def test_every_operation_is_checked():
    assert operations() == {case.op for case in CASES}


def test_every_operation_is_public():
    assert all(getattr(ops, name) is function for name, function in made_by_op().items())


@pytest.mark.parametrize("chunk", [1, 2, 4])
@pytest.mark.parametrize("name", ["linear_cross_entropy", "linear_distillation"])
def test_losses_in_several_chunks_have_the_right_gradient(name, chunk, monkeypatch):
    monkeypatch.setattr(linear_loss, "CHUNK", chunk)
    case = first(name)
    check_grads(case.call, *case.inputs)


@pytest.mark.parametrize("name", ["linear_cross_entropy", "linear_distillation"])
def test_a_loss_inside_a_larger_expression_has_the_right_gradient(name):
    case = first(name)
    check_grads(lambda h, w: case.call(h, w) * 3.0 + (h * h).sum() + (w * w).sum(), *case.inputs)


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
