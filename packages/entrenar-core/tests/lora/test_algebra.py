"""Arithmetic of low-rank updates, beside numpy's SVD of the dense product."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from entrenar_core.lora.algebra import (
    effective_rank,
    energy_rank,
    inner,
    overlap,
    singular_values,
    truncated,
)
from entrenar_core.lora.update import Update, summed


def update(outputs, inputs, rank, *, seed=0, scale=0.7):
    rng = np.random.default_rng(seed)
    a = rng.standard_normal((rank, inputs), np.float32)
    return Update(a, rng.standard_normal((outputs, rank), np.float32), scale)


def product(found):
    return found.scale * (found.b.astype(np.float64) @ found.a.astype(np.float64))


sizes = st.tuples(st.integers(1, 20), st.integers(1, 20), st.integers(1, 12))
scales = st.sampled_from([-2.0, 0.25, 1.0])


@given(sizes, scales, st.integers(0, 99))
def test_singular_values_are_those_of_the_product(size, scale, seed):
    found = update(*size, seed=seed, scale=scale)
    dense = np.linalg.svd(product(found), compute_uv=False)
    wanted = np.zeros(size[2])
    wanted[: min(len(dense), size[2])] = dense[: size[2]]
    assert np.abs(singular_values(found) - wanted).max() <= 1e-7 * dense[0]


@given(sizes, scales, st.integers(1, 12), st.integers(0, 99))
def test_truncation_is_the_best_of_its_rank_and_knows_its_error(size, scale, rank, seed):
    found = update(*size, seed=seed, scale=scale)
    u, s, vt = np.linalg.svd(product(found), full_matrices=False)
    cut, error = truncated(found, rank)
    assert cut.rank == min(rank, size[2])
    best = (u[:, :rank] * s[:rank]) @ vt[:rank]
    assert np.abs(product(cut) - best).max() <= 1e-5 * s[0]
    assert error == pytest.approx(np.sqrt((s[rank:] ** 2).sum() / (s**2).sum()), abs=1e-6)


def test_an_update_of_zero_stays_zero():
    found = update(5, 6, 2)
    cut, error = truncated(Update(found.a, np.zeros_like(found.b), 1.0), 1)
    assert error == 0
    assert not product(cut).any()


def test_factors_of_a_truncation_are_balanced():
    """A and B get the square roots of the singular values, whatever the scale was."""
    cut, _ = truncated(update(30, 40, 6, scale=1e-3), 4)
    norms = np.linalg.norm(cut.b, axis=0), np.linalg.norm(cut.a, axis=1)
    assert norms[0] == pytest.approx(norms[1], rel=1e-5)


def test_effective_rank_of_equal_values_is_their_number():
    assert effective_rank(np.full(7, 0.3)) == pytest.approx(7)


def test_effective_rank_is_e_to_the_entropy():
    values = np.array([3.0, 1.0, 0.0])
    shares = np.array([0.75, 0.25])
    assert effective_rank(values) == pytest.approx(np.exp(-(shares * np.log(shares)).sum()))


def test_effective_rank_of_nothing_is_0():
    assert effective_rank(np.zeros(3)) == 0


def test_energy_rank_is_the_least_that_has_its_share():
    values = np.array([3.0, 2.0, 1.0])  # energies 9, 4, 1 of 14
    assert [energy_rank(values, share) for share in (9 / 14, 0.65, 13 / 14, 1.0)] == [1, 2, 2, 3]


def test_spaces_of_one_update_overlap_and_orthogonal_ones_do_not():
    rng = np.random.default_rng(0)
    q, _ = np.linalg.qr(rng.standard_normal((20, 6)))
    p, _ = np.linalg.qr(rng.standard_normal((30, 6)))
    one = Update((p[:, :3].T * 2).astype(np.float32), q[:, :3].astype(np.float32), 1.0)
    other = Update(p[:, 3:].T.astype(np.float32), q[:, 3:].astype(np.float32), 1.0)
    assert overlap(one, one) == pytest.approx((1, 1), abs=1e-5)
    assert overlap(one, other) == pytest.approx((0, 0), abs=1e-5)
    assert overlap(one, summed([one, other])) == pytest.approx((1, 1), abs=1e-5)


def test_overlap_is_that_of_the_singular_vectors():
    one, other = update(15, 12, 3, seed=1), update(15, 12, 4, seed=2)
    (u1, _, v1), (u2, _, v2) = (np.linalg.svd(product(x)) for x in (one, other))
    outputs = (np.square(u1[:, :3].T @ u2[:, :4])).sum() / 3
    inputs = (np.square(v1[:3] @ v2[:4].T)).sum() / 3
    assert overlap(one, other) == pytest.approx((outputs, inputs), rel=1e-5)


@given(st.integers(0, 99))
def test_the_inner_product_is_that_of_the_matrices(seed):
    one, other = update(7, 9, 3, seed=seed), update(7, 9, 2, seed=seed + 100, scale=-1.5)
    assert inner(one, other) == pytest.approx((product(one) * product(other)).sum(), rel=1e-6)
