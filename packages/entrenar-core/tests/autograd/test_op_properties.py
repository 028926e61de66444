"""Array operations on shapes, axes and indices that hypothesis draws: value and gradient.

The value is compared with NumPy's, the gradient with central differences. `make test-slow` sets
ENTRENAR_EXAMPLES, the number of examples of all properties together.
"""

import math
import os
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from entrenar_core.autograd import Tensor, ops
from entrenar_core.testing import check_grads, difference

pytestmark = pytest.mark.tier2

PROPERTIES = 17
EXAMPLES = math.ceil(int(os.environ.get("ENTRENAR_EXAMPLES", "340")) / PROPERTIES)

examples = settings(
    deadline=None, max_examples=EXAMPLES, suppress_health_check=list(HealthCheck), database=None
)
shapes = hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4)
seeds = st.integers(0, 2**32 - 1)


class Draw:
    """Arrays of random numbers from a seed."""

    def __init__(self, seed: int):
        self.rng = np.random.default_rng(seed)

    def normal(self, shape):
        return np.asarray(self.rng.standard_normal(shape))

    def positive(self, shape):
        return np.asarray(self.rng.uniform(0.3, 3.0, shape))

    def distinct(self, *shapes):
        """Arrays of which all elements together are at least 0.01 apart, and from 0."""
        sizes = [math.prod(shape) for shape in shapes]
        values = (self.rng.permutation(sum(sizes)) - sum(sizes) // 2 + 0.5) * 0.02
        parts = np.split(values, np.cumsum(sizes)[:-1])
        return [part.reshape(shape) for part, shape in zip(parts, shapes, strict=True)]


draws = st.builds(Draw, seeds)


def agrees(ours: Callable, numpys: Callable, *inputs: np.ndarray) -> None:
    """ours(tensors) has the value of numpys(arrays) in float64, and its derivative."""
    found, wanted = ours(*map(Tensor, inputs)), np.asarray(numpys(*inputs))
    assert found.dtype == wanted.dtype == np.float64
    assert difference(found.data, wanted) <= 1e-12
    check_grads(ours, *inputs)


def pairs(count: int = 2):
    return hnp.mutually_broadcastable_shapes(num_shapes=count, max_dims=4, min_side=0, max_side=4)


def axes(ndim: int):
    """None, an axis or several, with negative ones among them."""
    several = hnp.valid_tuple_axes(ndim)
    return st.none() | several | st.integers(-ndim, ndim - 1) if ndim else st.none()


# --- element by element --------------------------------------------------------------------------

BINARY = {"add": np.add, "sub": np.subtract, "mul": np.multiply, "div": np.divide, "pow": np.power}
CHOICE = {"maximum": np.maximum, "minimum": np.minimum}
UNARY = {"neg": np.negative, "exp": np.exp, "log": np.log, "sqrt": np.sqrt, "abs": np.abs}


@examples
@given(pairs(), st.sampled_from(sorted(BINARY)), draws)
def test_arithmetic_broadcasts(drawn, name, draw):
    first, second = drawn.input_shapes
    x = draw.positive(first) if name == "pow" else draw.normal(first)
    y = draw.positive(second) if name == "div" else draw.normal(second)
    agrees(getattr(ops, name), BINARY[name], x, y)


@examples
@given(pairs(), st.sampled_from(sorted(CHOICE)), draws)
def test_the_larger_and_the_smaller_broadcast(drawn, name, draw):
    agrees(getattr(ops, name), CHOICE[name], *draw.distinct(*drawn.input_shapes))


@examples
@given(shapes, st.sampled_from(sorted(UNARY)), draws)
def test_functions_of_one_array(shape, name, draw):
    agrees(getattr(ops, name), UNARY[name], draw.positive(shape))


@examples
@given(pairs(3), draws)
def test_clip_broadcasts_its_bounds(drawn, draw):
    x, low, high = draw.distinct(*drawn.input_shapes)
    agrees(ops.clip, lambda x, low, high: np.minimum(np.maximum(x, low), high), x, low, high)


@examples
@given(pairs(3), draws)
def test_where_broadcasts(drawn, draw):
    mask, first, second = drawn.input_shapes
    chosen = np.asarray(draw.rng.random(mask) < 0.5)
    x, y = draw.normal(first), draw.normal(second)
    agrees(lambda x, y: ops.where(chosen, x, y), lambda x, y: np.where(chosen, x, y), x, y)


@examples
@given(
    hnp.array_shapes(min_dims=0, max_dims=4, min_side=1, max_side=4),
    st.sampled_from(["add", "sub", "mul", "div", "maximum"]),
    st.sampled_from([2, 0.5, True, np.float64(3.0), np.int64(3), "list", "integers", "float64"]),
    st.booleans(),
    draws,
)
def test_what_stands_beside_float32_takes_its_type(shape, name, other, swapped, draw):
    x = draw.positive(shape).astype(np.float32)
    if isinstance(other, str):
        values = draw.rng.integers(1, 5, shape)
        other = {"list": values.tolist(), "integers": values, "float64": values / 3}[other]
    pair, function = (other, Tensor(x)) if swapped else (Tensor(x), other), getattr(ops, name)
    wide = (other, Tensor(x.astype(float))) if swapped else (Tensor(x.astype(float)), other)
    found, wanted = function(*pair), function(*wide)
    assert (found.dtype, wanted.dtype) == (np.float32, np.float64)
    np.testing.assert_allclose(found.data, wanted.data, rtol=1e-6, atol=2e-6)


# --- reductions ----------------------------------------------------------------------------------

REDUCTIONS = {
    "sum": np.sum,
    "mean": np.mean,
    "var": np.var,
    "std": np.std,
    "max": np.max,
    "min": np.min,
    "logsumexp": lambda x, **o: np.log(np.sum(np.exp(x), **o)),
}


@examples
@given(st.data(), shapes, st.sampled_from(sorted(REDUCTIONS)), st.booleans(), draws)
def test_reductions(data, shape, name, keepdims, draw):
    options = {"axis": data.draw(axes(len(shape))), "keepdims": keepdims}
    axis = options["axis"]
    count = math.prod(shape if axis is None else [shape[i] for i in np.atleast_1d(axis)])
    # over no elements only the sum is a number; the deviation of one has a kink
    assume(count >= {"sum": 0, "std": 2}.get(name, 1))
    (x,) = draw.distinct(shape)
    agrees(lambda x: getattr(ops, name)(x, **options), lambda x: REDUCTIONS[name](x, **options), x)


@examples
@given(st.data(), shapes, draws)
def test_running_sums(data, shape, draw):
    axis = data.draw(st.none() | st.integers(-len(shape), len(shape) - 1) if shape else st.none())
    agrees(lambda x: ops.cumsum(x, axis=axis), lambda x: np.cumsum(x, axis), draw.normal(shape))


# --- rearrangements ------------------------------------------------------------------------------


@examples
@given(st.data(), shapes, draws)
def test_axes_in_any_order(data, shape, draw):
    order = data.draw(st.permutations(range(len(shape))))
    signed = tuple(i - len(shape) * data.draw(st.booleans()) for i in order)
    backwards = data.draw(axes(len(shape)))
    x = draw.normal(shape)
    agrees(lambda x: ops.permute(x, signed), lambda x: np.transpose(x, signed), x)
    agrees(lambda x: ops.flip(x, axis=backwards), lambda x: np.flip(x, backwards), x)
    if len(shape) > 1:
        pair = signed[:2]
        agrees(lambda x: ops.transpose(x, *pair), lambda x: np.swapaxes(x, *pair), x)


@examples
@given(st.data(), shapes, draws)
def test_shapes_of_the_same_size(data, shape, draw):
    x = draw.normal(shape)
    new = data.draw(st.permutations([*shape, 1]))
    agrees(lambda x: ops.reshape(x, new), lambda x: np.reshape(x, new), x)
    ones = tuple(i for i, n in enumerate(shape) if n == 1)
    gone = data.draw(st.sampled_from([None, ones, *ones]))
    agrees(lambda x: ops.squeeze(x, axis=gone), lambda x: np.squeeze(x, gone), x)
    at = data.draw(st.integers(-len(shape) - 1, len(shape)))
    agrees(lambda x: ops.unsqueeze(x, at), lambda x: np.expand_dims(x, at), x)


@examples
@given(st.data(), pairs(), draws)
def test_larger_shapes(data, drawn, draw):
    before, wanted = drawn.input_shapes[0], drawn.result_shape
    given_shape = [
        -1 if i >= 0 and before[i] == n and data.draw(st.booleans()) else n
        for i, n in enumerate(wanted, len(before) - len(wanted))
    ]
    x = draw.normal(before)
    agrees(lambda x: ops.expand(x, given_shape), lambda x: np.broadcast_to(x, wanted), x)
    widths = data.draw(
        st.lists(
            st.tuples(st.integers(0, 2), st.integers(0, 2)),
            min_size=len(before),
            max_size=len(before),
        )
    )
    if before:
        agrees(
            lambda x: ops.pad(x, widths, value=1.5),
            lambda x: np.pad(x, widths, constant_values=1.5),
            x,
        )


@examples
@given(st.data(), hnp.array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=4), draws)
def test_parts_and_wholes(data, shape, draw):
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    lengths = data.draw(st.lists(st.integers(0, 3), min_size=1, max_size=4))
    parts = []
    for length in lengths:
        part = list(shape)
        part[axis] = length
        parts.append(draw.normal(part))
    agrees(lambda *p: ops.concat(p, axis=axis), lambda *p: np.concatenate(p, axis), *parts)
    ends = np.cumsum(lengths)[:-1]
    for i in range(len(lengths)):
        agrees(
            lambda x, i=i: ops.split(x, lengths, axis=axis)[i],
            lambda x, i=i: np.split(x, ends, axis)[i],
            np.concatenate(parts, axis),
        )
    several, at = [draw.normal(shape) for _ in lengths], data.draw(st.integers(-1, len(shape)))
    agrees(lambda *p: ops.stack(p, axis=at), lambda *p: np.stack(p, at), *several)


# --- indices -------------------------------------------------------------------------------------


@examples
@given(st.data(), shapes, draws)
def test_views_by_index(data, shape, draw):
    index = data.draw(hnp.basic_indices(shape, allow_newaxis=True, allow_ellipsis=True))
    agrees(lambda x: x[index], lambda x: x[index], draw.normal(shape))


@examples
@given(st.data(), hnp.array_shapes(min_dims=1, max_dims=3, max_side=4), draws)
def test_copies_by_index(data, shape, draw):
    whole = data.draw(hnp.integer_array_indices(shape))
    rows = data.draw(hnp.integer_array_indices(shape[:1]))
    mixed = (*rows, *([slice(None, None, -1)] * (len(shape) - 1)))
    mask = draw.rng.random(shape[: data.draw(st.integers(1, len(shape)))]) < 0.5
    x = draw.normal(shape)
    for index in (whole, mixed, mask):
        agrees(lambda x, index=index: x[index], lambda x, index=index: x[index], x)


@examples
@given(st.data(), hnp.array_shapes(min_dims=1, max_dims=3, max_side=4), draws)
def test_gathering_and_scattering_along_an_axis(data, shape, draw):
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    places = list(shape)
    places[axis] = data.draw(st.integers(0, 5))
    indices = draw.rng.integers(-shape[axis], shape[axis], places)
    x, values = draw.normal(shape), draw.normal(places)

    def scattered(x, values):
        y = x.copy()
        for place in np.ndindex(*places):
            target = list(place)
            target[axis] = indices[place]
            y[tuple(target)] += values[place]
        return y

    agrees(
        lambda x: ops.gather(x, indices, axis=axis),
        lambda x: np.take_along_axis(x, indices, axis),
        x,
    )
    agrees(lambda x, v: ops.scatter_add(x, indices, v, axis=axis), scattered, x, values)


# --- products ------------------------------------------------------------------------------------

MATMUL = hnp.mutually_broadcastable_shapes(
    signature="(m?,n),(n,p?)->(m?,p?)", max_dims=3, min_side=0, max_side=4
)


@examples
@given(MATMUL, draws)
def test_products_of_matrices(drawn, draw):
    x, y = (draw.normal(shape) for shape in drawn.input_shapes)
    agrees(ops.matmul, np.matmul, x, y)
    assert ops.matmul(Tensor(x.astype("f")), Tensor(y.astype("f"))).dtype == np.float32


@examples
@given(st.data(), draws)
def test_products_of_named_axes(data, draw):
    lengths = {c: data.draw(st.integers(0, 3)) for c in "abcde"}
    terms = [data.draw(st.lists(st.sampled_from("abcde"), max_size=4, unique=True)) for _ in "xy"]
    known = sorted({*terms[0], *terms[1]})
    out = data.draw(st.permutations(known))[: data.draw(st.integers(0, len(known)))]
    subscripts = f"{''.join(terms[0])},{''.join(terms[1])}->{''.join(out)}"
    arrays = [draw.normal([lengths[c] for c in term]) for term in terms]
    agrees(
        lambda a, b: ops.einsum(subscripts, a, b), lambda a, b: np.einsum(subscripts, a, b), *arrays
    )


def test_the_examples_are_shared_among_all_properties():
    found = [f for f in globals().values() if hasattr(f, "hypothesis")]
    assert len(found) == PROPERTIES
