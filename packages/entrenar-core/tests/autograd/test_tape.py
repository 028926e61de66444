"""The walk back: what it computes, what it refuses and what it lets go of."""

import gc
import weakref

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from entrenar_common.errors import ShapeError
from entrenar_core.autograd import Parameter, Tensor, no_grad, op, ops
from entrenar_core.autograd.tape import Node, into


def leaf(*values):
    return Tensor(np.array(values), requires_grad=True)


# --- sums over paths -----------------------------------------------------------------------------


def test_a_tensor_added_to_itself_has_gradient_two():
    a = leaf(1.0, 2.0)
    (a + a).sum().backward()
    assert a.grad.tolist() == [2.0, 2.0]


def test_a_tensor_multiplied_with_itself_has_twice_itself():
    a = leaf(1.0, -3.0)
    (a * a).sum().backward()
    assert a.grad.tolist() == [2.0, -6.0]


def test_a_tensor_subtracted_from_itself_has_gradient_zero():
    a = leaf(1.0, 2.0)
    (a - a).sum().backward()
    assert a.grad.tolist() == [0.0, 0.0]


def test_a_diamond_adds_both_sides():
    a = leaf(3.0)
    b = a * 2.0
    (b * b + b).sum().backward()  # 4a² + 2a
    assert a.grad.tolist() == [26.0]


def test_residual_diamonds_in_a_row_multiply():
    a = leaf(1.0)
    x = a
    for _ in range(30):
        x = x + x * 1.0
    x.sum().backward()
    assert a.grad.tolist() == [2.0**30]


def test_a_scalar_that_is_used_three_times_adds_all_of_them():
    a = Tensor(np.array(1.0), requires_grad=True)
    b = a * 2.0
    ((b + b) + b).backward()
    assert a.grad == 6.0


def test_a_node_reached_by_a_short_and_a_long_way_waits_for_both():
    a = leaf(1.0)
    b = a * 1.0
    long = b
    for _ in range(5):
        long = long * 2.0
    (b + long).sum().backward()
    assert a.grad.tolist() == [33.0]


@pytest.mark.tier2
def test_a_chain_of_20000_operations_does_not_recurse():
    a = leaf(1.0)
    x = a
    for _ in range(20_000):
        x = x + 1.0
    x.sum().backward()
    assert a.grad.tolist() == [1.0]


@pytest.mark.tier2
def test_a_chain_that_is_thrown_away_unused_does_not_recurse():
    x = leaf(1.0)
    for _ in range(20_000):
        x = x * 1.0
    del x
    gc.collect()


# --- broadcasting --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "gradient"),
    [((), 12.0), ((1,), 12.0), ((4,), 3.0), ((3, 1), 4.0), ((1, 4), 3.0), ((1, 1), 12.0)],
)
def test_a_broadcast_input_gets_the_sum_in_its_own_shape(shape, gradient):
    a = Tensor(np.zeros(shape), requires_grad=True)
    (a + np.zeros((3, 4))).sum().backward()
    assert a.grad.shape == shape
    assert np.all(a.grad == gradient)


def test_both_inputs_of_one_operation_may_be_broadcast():
    a, b = Tensor(np.ones((3, 1)), requires_grad=True), Tensor(np.ones((1, 4)), requires_grad=True)
    (a * b).sum().backward()
    assert (a.grad.tolist(), b.grad.tolist()) == ([[4.0]] * 3, [[3.0] * 4])


# --- what is asked for ---------------------------------------------------------------------------


def counted(calls):
    @op
    def times(x, y):
        def pull_x(g):
            calls.append("x")
            return g * y

        def pull_y(g, dest):
            calls.append("y")
            return g * x

        return x * y, (pull_x, into(pull_y))

    return times


def test_a_frozen_input_costs_no_gradient():
    calls = []
    counted(calls)(leaf(1.0), Tensor(np.array([2.0]))).sum().backward()
    assert calls == ["x"]


def test_nothing_behind_a_frozen_input_is_walked():
    calls = []
    times = counted(calls)
    constant = Tensor(np.array([2.0]))
    frozen = times(constant, constant)
    times(frozen, leaf(1.0)).sum().backward()
    assert frozen.node is None
    assert calls == ["y"]


def test_a_frozen_model_part_in_front_records_nothing():
    x = Tensor(np.ones((2, 3)))
    weight = Parameter(np.ones((3, 3)))
    weight.requires_grad = False
    assert not ops.linear(x, weight).requires_grad


def test_no_grad_records_nothing():
    a = leaf(1.0)
    with no_grad():
        b = a * 2.0
    assert (b.requires_grad, b.node) == (False, None)


def test_no_grad_ends_with_its_block_also_after_an_error():
    a = leaf(1.0)
    with pytest.raises(ZeroDivisionError), no_grad():
        raise ZeroDivisionError
    assert (a * 2.0).requires_grad


def test_the_needs_of_an_operation_are_those_of_its_inputs():
    seen = []

    @op
    def look(x, y, z=None, *, needs):
        seen.append(needs)
        return x + y, (lambda g: g, lambda g: g, None)

    look(leaf(1.0), Tensor(np.array([1.0])))
    with no_grad():
        look(leaf(1.0), leaf(1.0))
    assert seen == [(True, False, False), (False, False, False)]


# --- refusals ------------------------------------------------------------------------------------


def test_a_second_backward_is_refused():
    loss = (leaf(1.0) * 2.0).sum()
    loss.backward()
    with pytest.raises(ShapeError, match="already been walked"):
        loss.backward()


def test_backward_through_a_part_that_was_walked_is_refused_and_changes_nothing():
    a, b = leaf(1.0), leaf(1.0)
    shared = a * 2.0
    shared.sum().backward()
    with pytest.raises(ShapeError, match="already been walked"):
        (shared * b).sum().backward()
    assert (a.grad.tolist(), b.grad) == ([2.0], None)


def test_backward_of_many_values_needs_a_gradient():
    a = leaf(1.0, 2.0)
    with pytest.raises(ShapeError, match="needs the gradient to start from"):
        (a * 2.0).backward()
    (a * 2.0).backward(np.array([1.0, 10.0], np.float32))
    assert a.grad.tolist() == [2.0, 20.0]


def test_backward_of_a_constant_is_refused():
    with pytest.raises(ShapeError, match="not computed from anything"):
        Tensor([1.0]).sum().backward()


def test_integers_cannot_require_a_gradient():
    with pytest.raises(ShapeError, match="int64"):
        Tensor(np.arange(3), requires_grad=True)


# --- accumulation --------------------------------------------------------------------------------


def test_gradients_of_two_backwards_add_up():
    a = leaf(1.0)
    for _ in range(2):
        (a * 3.0).sum().backward()
    assert a.grad.tolist() == [6.0]


def test_a_gradient_lands_in_its_buffer():
    weight, x = Parameter(np.ones((2, 3))), Tensor(np.ones((4, 3), np.float64))
    weight.grad_buffer = np.full((2, 3), np.nan)
    for times in (1, 2):
        ops.linear(x, weight).sum().backward()
        assert weight.grad is weight.grad_buffer
        assert np.all(weight.grad == 4.0 * times)


def test_a_buffered_gradient_that_is_forgotten_is_overwritten():
    weight, x = Parameter(np.ones((2, 3))), Tensor(np.ones((4, 3), np.float64))
    weight.grad_buffer = np.empty((2, 3))
    for _ in range(2):
        weight.grad = None
        ops.linear(x, weight).sum().backward()
    assert np.all(weight.grad == 4.0)


def test_the_gradient_that_is_passed_in_is_not_changed():
    a = leaf(1.0)
    start = np.array([5.0], np.float32)
    (a + a + a).backward(start)
    assert (start.tolist(), a.grad.tolist()) == ([5.0], [15.0])


def test_a_leaf_does_not_share_the_gradient_that_is_passed_in():
    a, start = leaf(1.0), np.array([5.0], np.float32)
    (a + 0.0).backward(start)
    start[0] = 7.0
    assert a.grad.tolist() == [5.0]


def test_leaves_do_not_share_their_gradients():
    a, b = leaf(1.0), leaf(1.0)
    (a + b).sum().backward()
    a.grad += 1.0
    assert b.grad.tolist() == [1.0]


# --- memory --------------------------------------------------------------------------------------


class Watched(np.ndarray):
    """An array that can be watched being freed."""


def test_activations_are_freed_during_backward():
    alive = []

    @op
    def watch(x):
        saved = x.view(Watched)
        reference = weakref.ref(saved)

        def pull(g):
            alive.append(sum(ref() is not None for ref in references))
            return g * np.asarray(saved) / np.asarray(saved)

        references.append(reference)
        return x * 1.0, (pull,)

    references = []
    x = leaf(1.0)
    for _ in range(5):
        x = watch(x)
    loss = x.sum()
    del x
    loss.backward()
    assert alive == [5, 4, 3, 2, 1]
    assert not any(ref() is not None for ref in references)


def test_what_was_saved_is_freed_without_the_garbage_collector():
    a = leaf(1.0)
    middle = a * 2.0
    saved = weakref.ref(middle.data)
    loss = (middle * middle).sum()
    del middle
    gc.disable()
    try:
        loss.backward()
        assert saved() is None
    finally:
        gc.enable()


def test_nodes_are_numbered_in_the_order_of_computation():
    a = leaf(1.0)
    first = a * 1.0
    second = first * 1.0
    assert isinstance(first.node, Node)
    assert first.node.number < second.node.number


# --- any graph -----------------------------------------------------------------------------------

OPERATIONS = {"add": np.add, "sub": np.subtract, "mul": np.multiply}
SHAPES = ((2, 3), (3,), (2, 1), ())


@st.composite
def programs(draw):
    """Leaves with shapes, which of them are frozen, and steps (operation, left, right)."""
    shapes = draw(st.lists(st.sampled_from(SHAPES), min_size=1, max_size=3))
    frozen = draw(st.lists(st.booleans(), min_size=len(shapes), max_size=len(shapes)))
    steps = []
    for position in range(draw(st.integers(1, 14))):
        # near ones often, so that chains get deep; any, so that diamonds get wide
        operand = st.integers(0, len(shapes) + position - 1)
        steps.append((draw(st.sampled_from(sorted(OPERATIONS))), draw(operand), draw(operand)))
    return shapes, frozen, steps


def forward_derivative(values, tangents, steps):
    """d Σ(all results) along `tangents`, by the product rule going forward with the values."""
    values, tangents = list(values), list(tangents)
    for name, i, j in steps:
        x, y, dx, dy = values[i], values[j], tangents[i], tangents[j]
        values.append(OPERATIONS[name](x, y))
        tangents.append(dx * y + x * dy if name == "mul" else OPERATIONS[name](dx, dy))
    return sum(float(np.sum(t)) for t in tangents[-len(steps) :])


@pytest.mark.tier2
@settings(deadline=None, max_examples=150)
@given(program=programs(), seed=st.integers(0, 2**31), buffered=st.booleans())
def test_any_graph_has_the_gradient_that_forward_differentiation_finds(program, seed, buffered):
    shapes, frozen, steps = program
    rng = np.random.default_rng(seed)
    # numbers of absolute value 1 keep products of products from growing
    values = [np.asarray(rng.choice([-1.0, 1.0], shape)) for shape in shapes]
    leaves = [Tensor(v.copy(), requires_grad=not f) for v, f in zip(values, frozen, strict=True)]
    for each in leaves:
        each.grad_buffer = np.full(each.shape, np.nan) if buffered else None
    tensors = list(leaves)
    total = Tensor(np.zeros(()))
    for name, i, j in steps:
        tensors.append(getattr(ops, name)(tensors[i], tensors[j]))
        total = total + tensors[-1].sum()
    if total.requires_grad:
        total.backward()
    for index, each in enumerate(leaves):
        if each.grad is None:
            continue
        for place in np.ndindex(each.shape):
            tangents = [np.zeros(shape) for shape in shapes]
            tangents[index][place] = 1.0
            wanted = forward_derivative(values, tangents, steps)
            assert each.grad[place] == pytest.approx(wanted, rel=1e-12, abs=1e-12)
    assert all(np.array_equal(t.data, v) for t, v in zip(leaves, values, strict=True))
