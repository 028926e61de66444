"""What is counted of an operation beside the products that it makes, and beside closed forms."""

import dataclasses
import math

import numpy as np
import pytest

from entrenar_core import Tensor, kernels, no_grad
from entrenar_core.autograd import ops
from entrenar_core.autograd.counting import seen_pairs
from entrenar_core.autograd.observe import watching_operations
from entrenar_core.autograd.ops.expected import FromHidden
from entrenar_core.autograd.precision import WHOLE, multiplied_in
from entrenar_core.kernels.divergences import Divergence

N, I, O, R = 6, 4, 5, 3


def drawn(*shape, grad=True):
    array = np.random.default_rng(sum(shape)).standard_normal(shape).astype("float32")
    return Tensor(array, requires_grad=grad)


def watched(function):
    """The calls of operations that `function` makes, with those of the way back of its value."""
    calls = []
    with watching_operations(calls.append):
        y = function()
        if y.requires_grad:
            y.backward(np.ones(y.shape, "float32"))
    return calls


@pytest.fixture
def multiplied():
    """The operations of each product that the kernels are asked for."""
    found = []

    def counted(a, b, **options):
        y = kernels.matmul(a, b, **options)
        inner = a.shape[0] if options.get("trans_a") else a.shape[1]
        found.append(2 * math.prod(y.shape) * inner)
        return y

    with multiplied_in(dataclasses.replace(WHOLE, matmul=counted)):
        yield found


def distilled(*, needs_weight=True):
    told = FromHidden(drawn(N, R).data, drawn(7, R).data, shared=5)
    return ops.linear_distillation(
        drawn(N, I), drawn(7, I, grad=needs_weight), np.arange(N) % 5, expected=told,
        divergence=Divergence("forward_kl", temperature=1.0),
        alpha=0.5, normalizer=N, parts=ops.DistillationParts(),
    )  # fmt: skip


CASES = {
    "linear": lambda: ops.linear(drawn(2, 3, I), drawn(O, I), drawn(O)),
    "linear, frozen weight": lambda: ops.linear(drawn(2, 3, I), drawn(O, I, grad=False)),
    "linear, first of all": lambda: ops.linear(drawn(N, I, grad=False), drawn(O, I)),
    "conv1d": lambda: ops.conv1d(drawn(2, 3, I), drawn(I, O)),
    "swiglu_linear": lambda: ops.swiglu_linear(drawn(N, I), drawn(N, I), drawn(O, I)),
    "gelu_linear": lambda: ops.gelu_linear(drawn(N, I), drawn(O, I)),
    "relu_linear": lambda: ops.relu_linear(drawn(N, I), drawn(O, I, grad=False)),
    "gelu_conv1d": lambda: ops.gelu_conv1d(drawn(N, I), drawn(I, O)),
    "low_rank_linear": lambda: ops.low_rank_linear(
        drawn(2, 3, I), drawn(O, I, grad=False), drawn(R, I), drawn(O, R), scale=2.0
    ),
    "low_rank_linear, all": lambda: ops.low_rank_linear(
        drawn(N, I), drawn(O, I), drawn(R, I), drawn(O, R), scale=2.0
    ),
    "low_rank_linear, dropped": lambda: ops.low_rank_linear(
        drawn(N, I), drawn(O, I, grad=False), drawn(R, I), drawn(O, R), drawn(N, I), scale=2.0
    ),
    "linear_cross_entropy": lambda: ops.linear_cross_entropy(
        drawn(N, I), drawn(O, I), np.arange(N) % O, normalizer=N
    ),
    "linear_distillation": distilled,
    "linear_distillation, frozen": lambda: distilled(needs_weight=False),
}


@pytest.mark.parametrize("name", CASES)
def test_what_is_counted_is_what_the_kernels_are_asked_for(name, multiplied):
    calls = watched(CASES[name])
    assert sum(call.work.operations or 0 for call in calls) == sum(multiplied)


def test_without_a_tape_a_loss_makes_no_gradients(multiplied):
    with no_grad():
        calls = watched(CASES["linear_cross_entropy"])
    assert [call.work.operations for call in calls] == [2 * N * I * O] == multiplied


def test_the_teachers_logits_are_told_of_by_themselves_before_the_loss_that_asked_for_them():
    inner, outer, *_ = watched(distilled)
    assert (inner.name, outer.name) == ("teacher_logits", "linear_distillation")
    assert inner.work.operations == 2 * N * R * 7
    assert outer.started <= inner.started <= inner.ended <= outer.ended


@pytest.mark.parametrize(
    ("x", "y"),
    [((3, 4), (4, 5)), ((2, 1, 3, 4), (6, 4, 5)), ((4,), (4,)), ((2, 3, 4), (4,)), ((4,), (4, 5))],
)
def test_a_product_of_arrays_takes_one_multiplication_for_each_term_of_its_sums(x, y):
    there, back = watched(lambda: ops.matmul(drawn(*x), drawn(*y)))
    terms = np.matmul(np.ones(x), np.ones(y)).sum()  # as many as ones are added up
    assert (there.work.operations, back.work.operations) == (2 * terms, 4 * terms)


SEEN = {
    "all": {"causal": False},
    "causal": {},
    "window": {"window": 2},
    "window, both ways": {"causal": False, "window": 3},
    "documents": {"first": np.array([[0, 0, 2, 2, 2], [0, 0, 0, 0, 4]])},
    "mask": {"mask": np.array([[1, 1, 0, 1, 1], [0, 1, 1, 0, 1]], bool)},
    "all of it": {
        "window": 3,
        "first": np.array([[0, 0, 2, 2, 2], [0, 0, 0, 0, 4]]),
        "mask": np.array([[1, 1, 0, 1, 1], [0, 1, 1, 0, 1]], bool),
    },
}


def pairs(batch, queries, keys, *, causal=True, window=None, first=None, mask=None):
    """Pair by pair, as `ops.attention` says who sees whom."""
    return sum(
        (not causal or s <= p)
        and (window is None or s > p - window)
        and (first is None or s >= first[b, t])
        and (mask is None or bool(mask[b, s]))
        for b in range(batch)
        for t, p in enumerate(range(keys - queries, keys))
        for s in range(keys)
    )


@pytest.mark.parametrize("name", SEEN)
@pytest.mark.parametrize("queries", [5, 3])
def test_pairs_that_see_each_other(name, queries):
    options = dict(SEEN[name])
    if "first" in options:
        options["first"] = options["first"][:, :queries]
    assert seen_pairs(2, queries, 5, **options) == pairs(2, queries, 5, **options)


def test_attention_takes_two_products_of_each_pair_and_five_on_the_way_back():
    (b, t, h, d), g = (2, 5, 4, 8), 2
    there, back = watched(
        lambda: ops.attention(drawn(b, t, h, d), drawn(b, t, g, d), drawn(b, t, g, d), scale=1.0)
    )
    product = 2 * b * h * d * t * (t + 1) // 2
    assert (there.work.operations, back.work.operations) == (2 * product, 5 * product)


def test_an_elementwise_operation_moves_its_inputs_and_its_result_once():
    there, back = watched(lambda: ops.mul(drawn(3, 4), drawn(4, grad=False)))
    assert there.work.bytes == 4 * (12 + 4 + 12)
    assert back.work.bytes == 4 * (12 + 12)
    assert there.work.operations is None


def test_what_nobody_counts_has_no_number():
    assert watched(lambda: ops.reshape(drawn(3, 4), (12,)))[0].work == (None, None)


def test_where_nobody_watched_on_the_way_there_the_way_back_is_told_of_without_numbers():
    y = ops.linear(drawn(N, I), drawn(O, I))
    (back,) = watched(lambda: y)
    assert (back.name, back.direction, back.work) == ("linear", "backward", (None, None))
    assert back.needs == (True, True, False, False)
