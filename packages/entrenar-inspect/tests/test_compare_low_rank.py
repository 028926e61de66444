"""What `compare` takes for a merged adapter, and what not."""

import ml_dtypes
import numpy as np
import pytest

from entrenar_core.kernels import comparing
from entrenar_inspect.differences import Numbers, difference
from entrenar_inspect.low_rank import find_low_rank, spectrum_of

TYPES = {"float32": np.float32, "float16": np.float16, "bfloat16": ml_dtypes.bfloat16}


def matrix(shape, seed, dtype, scale=0.02):
    drawn = scale * np.random.default_rng(seed).standard_normal(shape)
    return drawn.astype(np.float32).astype(dtype)


def moved(a, change):
    return (a.astype(np.float64) + change).astype(a.dtype)


def product(shape, rank, seed, size):
    """A matrix of this rank whose elements are about `size`."""
    rng = np.random.default_rng(seed)
    return (
        rng.standard_normal((shape[0], rank))
        @ rng.standard_normal((rank, shape[1]))
        * (size / rank**0.5)
    )


def spectrum(a, b):
    x, y = Numbers(a), Numbers(b)
    return spectrum_of(x, y, difference(x, y, comparing.differences.reference, 1 << 15))


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("shape", [(96, 96), (256, 64), (80, 300)])
@pytest.mark.parametrize("rank", [1, 4, 16])
def test_the_rank_of_a_change_is_found_through_the_rounding_of_its_type(dtype, shape, rank):
    a = matrix(shape, 1, TYPES[dtype])
    found = spectrum(a, moved(a, product(shape, rank, 2, 1e-3)))
    assert found.rank == rank
    assert found.share > 0.95


def test_a_rank_that_the_first_look_does_not_reach_is_found_by_the_second():
    a = matrix((300, 260), 1, np.float32)
    assert spectrum(a, moved(a, product(a.shape, 100, 2, 1e-3))).rank == 100


def test_the_share_is_that_of_the_largest_singular_values():
    a = matrix((128, 96), 1, np.float32)
    b = moved(a, product(a.shape, 4, 2, 1e-3))
    values = np.linalg.svd(b.astype(np.float64) - a, compute_uv=False) ** 2
    assert spectrum(a, b).share == pytest.approx(values[:4].sum() / values.sum(), abs=1e-5)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("size", [1e-5, 1e-4, 1e-3, 1e-2])
def test_a_change_of_full_rank_is_none_of_low_rank(dtype, size):
    a = matrix((128, 96), 1, TYPES[dtype])
    assert spectrum(a, moved(a, matrix(a.shape, 2, np.float64, size))) is None


def test_a_low_rank_beside_a_small_change_of_full_rank_is_none():
    a = matrix((128, 96), 1, np.float32)
    change = product(a.shape, 4, 2, 1e-3) + matrix(a.shape, 3, np.float64, 1e-4)
    assert spectrum(a, moved(a, change)) is None


@pytest.mark.parametrize(("shape", "rank"), [((8, 8), 4), ((16, 64), 8), ((2, 2), 1), ((1, 9), 1)])
def test_half_of_the_possible_rank_is_not_low(shape, rank):
    a = matrix(shape, 1, np.float32)
    assert spectrum(a, moved(a, product(shape, rank, 2, 1e-3))) is None


# --- whole models --------------------------------------------------------------------------------


def found_in(pairs):
    """What is found in matrices (a, b) by name."""
    values = {name: (Numbers(a), Numbers(b)) for name, (a, b) in pairs.items()}
    kernel = comparing.differences.reference
    changed = [(name, difference(*each, kernel, 1 << 15)) for name, each in values.items()]
    looked = []
    found = find_low_rank(
        changed, values.__getitem__, module_of=lambda name: name[0], looked=looked.append
    )
    return found, looked


def model(dtype, changes):
    pairs = {}
    for number, (name, change) in enumerate(changes.items()):
        a = matrix((96, 64), number, dtype)
        pairs[name] = (a, moved(a, change))
    return pairs


def low(seed, rank=4):
    return product((96, 64), rank, seed, 1e-3)


def full(seed):
    return matrix((96, 64), seed, np.float64, 1e-3)


def test_all_changed_matrices_together_are_a_merged_adapter():
    found, looked = found_in(model(np.float32, {f"{'qv'[i % 2]}{i}": low(i) for i in range(6)}))
    assert (found.rank, found.smallest, found.matrices, found.changed) == (4, 4, 6, 6)
    assert sorted(found.modules) == ["q", "v"]
    assert found.share == pytest.approx(1, abs=1e-5)
    assert len(looked) == 6


def test_one_other_matrix_of_twenty_is_passed_over_and_three_are_not():
    ranks = {f"q{i}": low(i) for i in range(20)}
    found, _ = found_in(model(np.float32, ranks | {"q7": full(7)}))
    assert (found.matrices, found.changed) == (19, 20)
    assert found_in(model(np.float32, ranks | {f"q{i}": full(i) for i in (2, 9, 17)}))[0] is None


def test_a_model_that_was_trained_in_full_is_given_up_after_three_matrices():
    found, looked = found_in(model(np.float32, {f"q{i}": full(i) for i in range(40)}))
    assert found is None
    assert len(looked) == 3


def test_matrices_that_were_only_rounded_do_not_count_as_changed():
    wide = {f"k{i}": (matrix((96, 64), i, np.float32), None) for i in range(9)}
    pairs = {name: (a, a.astype(ml_dtypes.bfloat16)) for name, (a, _) in wide.items()}
    for i in range(3):
        a = matrix((96, 64), 20 + i, np.float32)
        pairs[f"q{i}"] = (a, (a + low(i)).astype(ml_dtypes.bfloat16))
    found, _ = found_in(pairs)
    assert (found.rank, found.matrices, found.changed, found.modules) == (4, 3, 3, ("q",))


def test_a_nan_is_no_reason_to_fail():
    a = matrix((96, 64), 1, np.float32)
    b = moved(a, low(1))
    b[3, 3] = np.nan
    assert spectrum(a, b) is None
