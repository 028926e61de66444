"""Sums in the order in which torch adds numbers."""

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from entrenar_core.merge.chunked import CHUNK, Chunked, UnitProducts
from entrenar_core.merge.ordered import (
    Cascaded,
    CascadedColumns,
    Dot,
    Lanes,
    OneByOne,
    Squares,
    WideDot,
    added,
)

ORDERS = {
    "one by one": lambda size: OneByOne(),
    "bfloat16's norm": lambda size: Lanes(),
    "sum": Cascaded,
    "float32's sum": lambda size: Cascaded(size, as_wide=True),
    "dot": lambda size: Dot(),
    "float32's dot": lambda size: WideDot(),
}
CUT = ORDERS | {
    "float32's norm": lambda size: Squares(),
    "chunks": lambda size: Chunked(size, lambda size: Squares()),
    "products": lambda size: UnitProducts(size, LENGTHS),
    "chunks of products": lambda size: Chunked(size, lambda size: UnitProducts(size, LENGTHS)),
}
LENGTHS = np.array([3, 7], np.float32)
SIZES = [1, 3, 8, 15, 16, 17, 63, 64, 65, 257, 1000, 1023, 5000, 100_003, 1_000_001]
MATRICES = [(5, 3), (16, 40), (70, 15), (70, 16), (70, 24), (300, 33), (4097, 100), (3000, 5)]


def cancelling(shape, dtype, seed=0):
    """Numbers of a type whose sum along the last axis is small beside them, and the same in
    float32: so what is rounded on the way is seen in it."""
    rng = np.random.default_rng(seed)
    half = np.exp(1.5 * rng.standard_normal((*shape[:-1], (shape[-1] + 1) // 2)))
    both = rng.permuted(np.concatenate([half, -half], axis=-1), axis=-1)[..., : shape[-1]]
    narrow = both.astype(dtype)
    return narrow, narrow.astype(np.float32)


def pieces(numbers, seed=0):
    """Parts of an array along its last axis, some of them empty."""
    rng = np.random.default_rng(seed)
    return np.split(numbers, np.sort(rng.integers(0, numbers.shape[-1] + 1, 5)), axis=-1)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("order", ORDERS)
def test_every_number_is_added_once(order, size):
    numbers = np.random.default_rng(size).integers(-9, 9, (2, size)).astype(np.float32)
    np.testing.assert_array_equal(added([numbers], ORDERS[order](size)), numbers.sum(axis=-1))


@pytest.mark.parametrize("size", SIZES)
def test_every_square_is_added_once(size):
    numbers = np.random.default_rng(size).integers(-3, 3, (2, size)).astype(np.float32)
    squares = np.square(numbers)
    np.testing.assert_array_equal(added([numbers], Squares()), squares.sum(axis=-1))


@pytest.mark.parametrize("size", [1, 1000, CHUNK, CHUNK + 3, 2 * CHUNK + 70_001])
def test_every_number_of_chunks_is_added_once(size):
    numbers = np.random.default_rng(size).integers(-3, 3, (2, size)).astype(np.float32)
    starts = range(0, size, CHUNK)
    squares = np.add.reduceat(np.square(numbers), starts, axis=-1)
    found = added(pieces(numbers), Chunked(size, lambda size: Squares()))
    np.testing.assert_array_equal(found, squares)
    products = np.add.reduceat(numbers[0] * numbers[1], starts)
    ones = np.ones(2, np.float32)
    found = added(pieces(numbers), Chunked(size, lambda size: UnitProducts(size, ones)))
    np.testing.assert_array_equal(found, products)


@pytest.mark.parametrize("as_wide", [False, True])
@pytest.mark.parametrize("rows, columns", MATRICES)
def test_every_number_of_columns_is_added_once(rows, columns, as_wide):
    numbers = np.random.default_rng(0).integers(-9, 9, (2, columns, rows)).astype(np.float32)
    found = added([numbers], CascadedColumns(rows, columns, as_wide=as_wide))
    np.testing.assert_array_equal(found, numbers.sum(axis=-1))


@pytest.mark.parametrize("order", ORDERS)
def test_the_sum_of_nothing_is_0(order):
    assert added([], ORDERS[order](0)) == 0


@settings(deadline=None, max_examples=20)
@given(order=st.sampled_from(sorted(CUT)), size=st.integers(1, 5000), seed=st.integers(0, 99))
def test_how_numbers_are_cut_into_parts_changes_no_bit(order, size, seed):
    _, numbers = cancelling((2, size), np.float32, seed)
    whole = added([numbers], CUT[order](size))
    np.testing.assert_array_equal(added(pieces(numbers, seed), CUT[order](size)), whole)


@settings(deadline=None, max_examples=20)
@given(rows=st.integers(1, 500), columns=st.integers(1, 80), seed=st.integers(0, 99))
def test_how_columns_are_cut_into_parts_changes_no_bit(rows, columns, seed):
    _, numbers = cancelling((columns, rows), np.float16, seed)
    whole = added([numbers], CascadedColumns(rows, columns))
    found = added(pieces(numbers, seed), CascadedColumns(rows, columns))
    np.testing.assert_array_equal(found, whole)


@pytest.fixture
def torch():
    """torch with one thread."""
    torch = pytest.importorskip("torch")
    if torch.backends.cpu.get_cpu_capability() not in ("AVX2", "AVX512"):
        pytest.skip("torch's vectors have another length on this CPU")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield torch
    torch.set_num_threads(before)


def rounded(found, dtype):
    return found.astype(np.float32).astype(dtype)


@pytest.mark.parity
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("dtype", [ml_dtypes.bfloat16, np.float16], ids=["bfloat16", "float16"])
def test_rows_have_the_bits_of_torchs(dtype, size, torch):
    from mergekit_arrays import from_torch, to_torch

    narrow, numbers = cancelling((3, size), dtype)
    theirs, squares = to_torch(narrow), np.square(numbers)
    norm = OneByOne() if dtype == np.float16 else Lanes()
    found = {
        "sum": (added(pieces(numbers), Cascaded(size)), theirs.sum(dim=-1)),
        "mean": (
            added(pieces(numbers), Cascaded(size, as_wide=True)) / np.float32(size),
            theirs.mean(dim=-1),
        ),
        "norm": (np.sqrt(added(pieces(squares), norm)), torch.norm(theirs, dim=-1)),
        "dot": (added(pieces(numbers[0]), Dot()), torch.dot(theirs[0], torch.ones_like(theirs[0]))),
    }
    for name, (ours, wanted) in found.items():
        np.testing.assert_array_equal(rounded(ours, dtype), from_torch(wanted), name)
    wide = [torch.linalg.vector_norm(row.float()).item() for row in theirs]
    np.testing.assert_array_equal(
        np.sqrt(added(pieces(numbers), Squares())), np.array(wide, np.float32)
    )


@pytest.mark.parity
@pytest.mark.parametrize("size", SIZES)
def test_rows_of_float32_have_the_bits_of_torchs(size, torch):
    numbers = cancelling((40, size) if size < 10_000 else (2, size), np.float32)[0]
    theirs, columns = torch.from_numpy(numbers), torch.from_numpy(numbers.T.copy()).T
    sums = added(pieces(numbers), Cascaded(size, as_wide=True))
    norms = np.sqrt(added(pieces(numbers), Squares()))
    np.testing.assert_array_equal(sums, theirs.sum(dim=-1))
    np.testing.assert_array_equal(sums / np.float32(size), theirs.mean(dim=-1))
    np.testing.assert_array_equal(norms, torch.norm(theirs, dim=-1))
    # the same of a tensor with one axis, and of what is stacked along another
    np.testing.assert_array_equal(sums[0], theirs[0].sum())
    np.testing.assert_array_equal(norms[0], torch.linalg.vector_norm(theirs[0]))
    stacked = columns[0].reshape(-1, 1, 1).contiguous()
    np.testing.assert_array_equal(sums[0], stacked.sum(dim=0).item())
    np.testing.assert_array_equal(norms[0], torch.linalg.vector_norm(stacked, dim=0).item())


@pytest.mark.parity
@pytest.mark.parametrize("size", SIZES)
def test_products_of_float32_have_the_bits_of_torchs(size, torch):
    from mergekit_arrays import adds_every_16th

    if not adds_every_16th():
        pytest.skip("MKL's vectors have another length on this CPU")
    numbers, _ = cancelling((20, size) if size < 10_000 else (4, size), np.float32)
    for a, b in zip(numbers[::2], numbers[1::2], strict=True):
        wanted = torch.dot(aligned(torch, a), aligned(torch, b))
        np.testing.assert_array_equal(added(pieces(a * b), WideDot()), wanted)


def aligned(torch, numbers):
    """A copy in memory of torch's, which begins at a multiple of 64 bytes."""
    return torch.from_numpy(numbers).clone()


@pytest.mark.parity
@pytest.mark.parametrize("rows, columns", MATRICES)
@pytest.mark.parametrize("dtype", [ml_dtypes.bfloat16, np.float16], ids=["bfloat16", "float16"])
def test_columns_have_the_bits_of_torchs(dtype, rows, columns, torch):
    from mergekit_arrays import from_torch, to_torch

    narrow, numbers = cancelling((columns, rows), dtype)
    theirs = to_torch(np.ascontiguousarray(narrow.T)).transpose(0, 1)
    sums = added(pieces(numbers), CascadedColumns(rows, columns))
    np.testing.assert_array_equal(rounded(sums, dtype), from_torch(theirs.sum(dim=-1)))
    norms = np.sqrt(added(pieces(np.square(numbers)), OneByOne()))
    np.testing.assert_array_equal(rounded(norms, dtype), from_torch(torch.norm(theirs, dim=-1)))


@pytest.mark.parity
@pytest.mark.parametrize("rows, columns", MATRICES)
def test_columns_of_float32_have_the_bits_of_torchs(rows, columns, torch):
    numbers, _ = cancelling((columns, rows), np.float32)
    theirs = torch.from_numpy(np.ascontiguousarray(numbers.T)).transpose(0, 1)
    sums = added(pieces(numbers), CascadedColumns(rows, columns, as_wide=True))
    np.testing.assert_array_equal(sums, theirs.sum(dim=-1))
    norms = np.sqrt(added(pieces(np.square(numbers)), OneByOne()))
    np.testing.assert_array_equal(norms, torch.norm(theirs, dim=-1))
