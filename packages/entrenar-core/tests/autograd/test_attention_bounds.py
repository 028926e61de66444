"""Attention with a first key for each query: documents in one row."""

import numpy as np
import pytest

from entrenar_common.errors import ShapeError
from entrenar_core.autograd import Tensor, ops
from entrenar_core.testing import difference

DTYPES = pytest.mark.parametrize("dtype", ["float32", "float64"])
LENGTHS = [1, 70, 3, 64, 130, 2]
TIME = sum(LENGTHS)
STARTS = np.cumsum([0, *LENGTHS[:-1]])
FIRST = np.repeat(STARTS, LENGTHS)[None, :]


def heads(dtype, *, time=TIME, batch=1):
    rng = np.random.default_rng(0)
    shapes = [(batch, time, 4, 16), (batch, time, 2, 16), (batch, time, 2, 16)]
    return [rng.standard_normal(shape).astype(dtype) for shape in shapes]


def values_and_gradients(arrays, upstream, **options):
    """o, dq, dk and dv."""
    given = [Tensor(array.copy(), requires_grad=True) for array in arrays]
    o = ops.attention(*given, scale=0.25, **options)
    o.backward(upstream)
    return [o.numpy(), *(x.grad for x in given)]


@DTYPES
@pytest.mark.parametrize("options", [{}, {"window": 20}])
def test_documents_in_a_row_are_as_if_each_were_alone(dtype, options):
    arrays = heads(dtype)
    upstream = np.random.default_rng(1).standard_normal((1, TIME, 4, 16)).astype(dtype)
    together = values_and_gradients(arrays, upstream, first=FIRST, **options)
    for start, length in zip(STARTS, LENGTHS, strict=True):
        own = slice(start, start + length)
        alone = [array[:, own] for array in arrays]
        wanted = values_and_gradients(alone, upstream[:, own], **options)
        for found, expected in zip(together, wanted, strict=True):
            bound = 2e-6 if dtype == "float32" else 1e-13
            assert difference(found[:, own], expected) <= bound


def test_no_bit_tells_a_document_in_a_row_from_one_alone():
    arrays = heads("float32")
    together = ops.attention(*arrays, scale=0.25, first=FIRST).numpy()
    for start, length in zip(STARTS, LENGTHS, strict=True):
        if length > 4:  # fewer queries are computed in another order where they are alone
            own = slice(start, start + length)
            alone = ops.attention(*(array[:, own] for array in arrays), scale=0.25).numpy()
            assert np.array_equal(together[:, own], alone)


@DTYPES
def test_a_first_key_that_is_that_of_the_row_changes_no_bit(dtype):
    arrays = heads(dtype, batch=2)
    upstream = np.ones((2, TIME, 4, 16), dtype)
    whole = values_and_gradients(arrays, upstream)
    bounded = values_and_gradients(arrays, upstream, first=np.zeros((2, TIME), np.int32))
    assert all(np.array_equal(a, b) for a, b in zip(whole, bounded, strict=True))


@DTYPES
def test_rows_have_bounds_of_their_own(dtype):
    arrays = heads(dtype, batch=2)
    upstream = np.random.default_rng(1).standard_normal((2, TIME, 4, 16)).astype(dtype)
    first = np.concatenate([FIRST, np.where(np.arange(TIME) < 200, 0, 200)[None, :]])
    both = values_and_gradients(arrays, upstream, first=first)
    for row in range(2):
        one = slice(row, row + 1)
        alone = [array[one] for array in arrays]
        wanted = values_and_gradients(alone, upstream[one], first=first[one])
        for found, expected in zip(both, wanted, strict=True):
            assert difference(found[one], expected) <= (2e-6 if dtype == "float32" else 1e-13)


@DTYPES
def test_dropout_in_documents_keeps_the_counters_of_the_row(dtype):
    arrays, chance = heads(dtype), {"dropout": 0.4, "key": 9}
    pairs = np.arange(TIME)[None, :] >= FIRST[0][:, None]
    bias = np.where(pairs, 0, -np.inf).astype(dtype)
    found = ops.attention(*arrays, scale=0.25, first=FIRST, **chance).numpy()
    wanted = ops.attention(*arrays, bias, scale=0.25, **chance).numpy()
    assert difference(found, wanted) <= (2e-6 if dtype == "float32" else 1e-13)


@pytest.mark.parity
@pytest.mark.parametrize(("dtype", "bound"), [("float32", 1e-5), ("float64", 1e-10)])
def test_it_is_what_torch_computes_with_a_block_diagonal_causal_mask(dtype, bound):
    torch = pytest.importorskip("torch")
    arrays = heads(dtype)
    upstream = np.random.default_rng(1).standard_normal((1, TIME, 4, 16)).astype(dtype)
    found = values_and_gradients(arrays, upstream, first=FIRST)
    document = torch.tensor(np.repeat(np.arange(len(LENGTHS)), LENGTHS))
    mask = (document[:, None] == document[None, :]).tril()
    q, k, v = (torch.tensor(array, requires_grad=True) for array in arrays)
    given = (q, k.repeat_interleave(2, dim=2), v.repeat_interleave(2, dim=2))
    o = torch.nn.functional.scaled_dot_product_attention(
        *(x.transpose(1, 2) for x in given), attn_mask=mask, scale=0.25
    ).transpose(1, 2)
    o.backward(torch.tensor(upstream))
    for ours, theirs in zip(found, (o.detach(), q.grad, k.grad, v.grad), strict=True):
        assert difference(ours, theirs.numpy()) <= bound


@pytest.mark.parametrize(
    ("first", "message"),
    [
        (np.zeros((2, 7)), r"first float64 \(2, 7\) for 2 sequences of 7 queries"),
        (np.zeros((7,), int), r"first int64 \(7,\)"),
        (np.zeros((2, 8), int), r"first int64 \(2, 8\)"),
    ],
)
@pytest.mark.parametrize("function", ["attention", "attention_weights"])
def test_bounds_that_do_not_fit_are_shown(function, first, message):
    arrays = heads("float64", time=7, batch=2)
    given = arrays if function == "attention" else arrays[:2]
    with pytest.raises(ShapeError, match=f"{function}: {message}"):
        getattr(ops, function)(*given, scale=0.25, first=first)
