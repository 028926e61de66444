"""Sums in the order in which torch adds numbers of half precision."""

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from entrenar_core.merge.ordered import (
    Cascaded,
    CascadedColumns,
    Dot,
    Lanes,
    OneByOne,
    added,
)

ORDERS = {
    "one by one": lambda size: OneByOne(),
    "bfloat16's norm": lambda size: Lanes(16),
    "float32's norm": lambda size: Lanes(8),
    "sum": Cascaded,
    "mean": lambda size: Cascaded(size, as_wide=True),
    "dot": lambda size: Dot(),
}
SIZES = [1, 3, 8, 15, 16, 17, 63, 64, 65, 257, 1000, 1023, 5000, 100_003, 1_000_001]
MATRICES = [(5, 3), (16, 40), (70, 15), (70, 16), (70, 24), (300, 33), (4097, 100), (3000, 5)]


def cancelling(shape, dtype, seed=0):
    """Numbers of half precision whose sum along the last axis is small beside them, and the same
    in float32: so what is rounded on the way is seen in it."""
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


@pytest.mark.parametrize("rows, columns", MATRICES)
def test_every_number_of_columns_is_added_once(rows, columns):
    numbers = np.random.default_rng(0).integers(-9, 9, (2, columns, rows)).astype(np.float32)
    found = added([numbers], CascadedColumns(rows, columns))
    np.testing.assert_array_equal(found, numbers.sum(axis=-1))


@pytest.mark.parametrize("order", ORDERS)
def test_the_sum_of_nothing_is_0(order):
    assert added([], ORDERS[order](0)) == 0


@settings(deadline=None, max_examples=20)
@given(order=st.sampled_from(sorted(ORDERS)), size=st.integers(1, 5000), seed=st.integers(0, 99))
def test_how_numbers_are_cut_into_parts_changes_no_bit(order, size, seed):
    _, numbers = cancelling((3, size), np.float16, seed)
    whole = added([numbers], ORDERS[order](size))
    np.testing.assert_array_equal(added(pieces(numbers, seed), ORDERS[order](size)), whole)


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
    norm = OneByOne() if dtype == np.float16 else Lanes(16)
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
    np.testing.assert_array_equal(np.sqrt(added(pieces(squares), Lanes(8))), np.float32(wide))


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
