"""NaN and infinity in the inputs of a kernel are seen in its outputs: a bad batch is noticed."""

import numpy as np
import pytest

from entrenar_core import kernels
from entrenar_core.distill import DIVERGENCES, Divergence, Matching
from entrenar_core.kernels.aligned import FINITE

pytestmark = pytest.mark.tier2

DTYPES = ("float32", "float64")
PLACES = (0, 1, 15, 16, 31, 36)
"""The first and last column, and both sides of a vector's end."""


def normal(*shape, dtype):
    return np.random.default_rng(0).standard_normal(shape).astype(dtype)


@pytest.fixture(params=DTYPES)
def dtype(request):
    return request.param


@pytest.fixture(params=PLACES)
def place(request):
    return request.param


@pytest.fixture(params=[np.nan, np.inf])
def bad(request):
    return request.param


@pytest.fixture(autouse=True)
def quiet():
    with np.errstate(all="ignore"):
        yield


def test_cross_entropy_of_a_bad_row_is_not_finite(dtype, place, bad):
    z = normal(3, 37, dtype=dtype)
    z[1, place] = bad
    losses, _ = kernels.cross_entropy(z, np.array([2, 3, 4]))
    assert np.isfinite(losses).tolist() == [True, False, True]


def test_the_gradient_of_cross_entropy_of_a_bad_row_is_not_finite(dtype, place, bad):
    z = normal(3, 37, dtype=dtype)
    z[1, place] = bad
    losses = kernels.cross_entropy_grad(z, np.array([2, 3, 4]), scale=1.0)
    assert np.isfinite(losses).tolist() == [True, False, True]
    assert np.isfinite(z).all(axis=1).tolist() == [True, False, True]


@pytest.mark.parametrize("which", [0, 1])
def test_distillation_of_a_bad_row_is_not_finite(dtype, place, bad, which):
    z, y = normal(3, 37, dtype=dtype), normal(3, 37, dtype=dtype)
    (z, y)[which][1, place] = bad
    ce, kl, _ = kernels.distillation_grad(
        z,
        y,
        np.array([2, 3, 4]),
        divergence=Divergence(temperature=2.0),
        alpha=0.5,
        shared=37,
        scale=1.0,
    )
    assert np.isfinite(ce + kl).tolist() == [True, False, True]
    assert np.isfinite(z).all(axis=1).tolist() == [True, False, True]


@pytest.mark.parametrize("top_k", [None, 5])
@pytest.mark.parametrize("which", [0, 1])
def test_every_divergence_of_a_bad_row_is_not_finite(dtype, place, bad, which, top_k):
    for name in DIVERGENCES:
        z, y = normal(3, 37, dtype=dtype), normal(3, 37, dtype=dtype)
        (z, y)[which][1, place] = bad
        _, value, _ = kernels.distillation_grad(
            z, y, np.array([2, 3, 4]), divergence=Divergence(name, top_k=top_k), alpha=1.0,
            shared=37, scale=1.0,
        )  # fmt: skip
        assert np.isfinite(value).tolist() == [True, False, True], name
        assert np.isfinite(z).all(axis=1).tolist() == [True, False, True], name


@pytest.mark.parametrize("row", [2, 3])
@pytest.mark.parametrize("which", [0, 1])
def test_a_group_with_a_bad_row_is_not_finite(dtype, place, bad, which, row):
    matching = Matching(np.arange(20), np.arange(20)[::-1].copy(), 37, 37, 0.5, 0.5)
    groups = np.array([[0, 2, 0, 2], [2, 2, 2, 2], [4, 2, 4, 2]])
    for name in FINITE:
        z, y = normal(6, 37, dtype=dtype), normal(6, 37, dtype=dtype)
        (z, y)[which][row, place] = bad
        tokens = np.arange(6)
        _, value, apart = kernels.aligned_grad(
            z, y, tokens, tokens, groups, matching=matching, divergence=Divergence(name),
            alpha=1.0, scale=1.0, group_scale=1.0,
        )  # fmt: skip
        assert np.isfinite(value + apart).tolist() == [True, False, True], name
        assert np.isfinite(z).all(axis=1)[[0, 1, 4, 5]].all(), name
        assert not np.isfinite(z[2:4]).all(), name


def test_the_prediction_of_a_bad_row_is_not_finite(dtype, place, bad):
    z = normal(3, 37, dtype=dtype)
    z[1, place] = bad
    losses, ranks, _, _ = kernels.predictions(z, np.array([2, 3, 4]))
    assert np.isfinite(losses).tolist() == [True, False, True]
    assert ranks[1] >= 1  # a target is not called the most likely one beside it


@pytest.mark.parametrize("which", [0, 1])
def test_the_divergence_of_a_bad_row_is_not_finite(dtype, place, bad, which):
    z, y = normal(3, 37, dtype=dtype), normal(3, 37, dtype=dtype)
    (z, y)[which][1, place] = bad
    found = kernels.divergence(z, y, shared=37)
    assert np.isfinite(found).tolist() == [True, False, True]


def test_the_norm_of_a_bad_row_is_not_finite(dtype, place, bad):
    x = normal(3, 37, dtype=dtype)
    x[1, place] = bad
    y, rstd = kernels.rms_norm(x, normal(37, dtype=dtype), eps=1e-5)
    assert np.isfinite(y).all(axis=1).tolist() == [True, False, True]
    g = normal(3, 37, dtype=dtype)
    dx, dweight = kernels.rms_norm_grad(g, x, normal(37, dtype=dtype), rstd)
    assert np.isfinite(dx).all(axis=1).tolist() == [True, False, True]
    assert not np.isfinite(dweight[place])


def test_attention_of_a_bad_key_is_not_finite_where_it_is_seen(dtype, bad):
    q, k, v = (normal(1, 37, 2, 4, dtype=dtype) for _ in range(3))
    k[0, 20, 1, 2] = bad
    o, lse = kernels.attention(q, k, v, scale=0.5)
    assert np.isfinite(o[0, :20]).all()
    assert np.isfinite(o[0, :, 0]).all()
    seen = np.isfinite(o[0, 20:, 1]).all(axis=-1) & np.isfinite(lse[0, 1, 20:])
    # a key of +inf times a negative query is a score of −inf: rightly a weight of zero
    assert not seen[q[0, 20:, 1, 2] > 0].any()


def test_attention_of_a_bad_value_is_not_finite_where_it_is_seen(dtype, bad):
    q, k, v = (normal(1, 37, 2, 4, dtype=dtype) for _ in range(3))
    v[0, 20, 1, 2] = bad
    o, _ = kernels.attention(q, k, v, scale=0.5)
    assert not np.isfinite(o[0, 20:, 1, 2]).any()


def test_swiglu_of_nan_is_nan(dtype, place):
    gate, up, g = (normal(3, 37, dtype=dtype) for _ in range(3))
    gate[1, place] = np.nan
    value = np.empty_like(g)
    assert np.isnan(kernels.swiglu(gate, up)).sum() == 1
    gradients = kernels.swiglu_grad(g, gate, up, value=value)
    assert [np.isnan(part).sum() for part in (*gradients, value)] == [1, 1, 1]


@pytest.mark.parametrize("approximate", [False, True])
def test_gelu_of_nan_is_nan(dtype, place, approximate):
    x, g = normal(3, 37, dtype=dtype), normal(3, 37, dtype=dtype)
    x[1, place] = np.nan
    value = np.empty_like(g)
    assert np.isnan(kernels.gelu(x, approximate=approximate)).sum() == 1
    dx = kernels.gelu_grad(g, x, approximate=approximate, value=value)
    assert np.isnan(dx).sum() == np.isnan(value).sum() == 1


def test_silu_of_nan_is_nan(dtype, place):
    x, g = normal(3, 37, dtype=dtype), normal(3, 37, dtype=dtype)
    x[1, place] = np.nan
    assert np.isnan(kernels.silu(x)).sum() == np.isnan(kernels.silu_grad(g, x)).sum() == 1


def test_layer_norm_of_a_bad_row_is_not_finite(dtype, place, bad):
    x, weight = normal(3, 37, dtype=dtype), normal(37, dtype=dtype)
    x[1, place] = bad
    y, mean, rstd = kernels.layer_norm(x, weight, weight, eps=1e-5)
    assert np.isfinite(y).any(axis=1).tolist() == [True, False, True]
    g = normal(3, 37, dtype=dtype)
    dx, dweight, _ = kernels.layer_norm_grad(g, x, weight, mean, rstd)
    assert np.isfinite(dx).any(axis=1).tolist() == [True, False, True]
    assert not np.isfinite(dweight).any()


@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
def test_softmax_of_a_bad_row_is_not_finite(dtype, place, bad, name):
    x = normal(3, 37, dtype=dtype)
    x[1, place] = bad
    y = getattr(kernels, name)(x)
    assert np.isfinite(y).all(axis=1).tolist() == [True, False, True]
    assert not np.isfinite(y[1, place])


@pytest.mark.parametrize("name", ["softmax_grad", "log_softmax_grad"])
@pytest.mark.parametrize("which", [0, 1])
def test_the_gradient_of_softmax_of_a_bad_row_is_not_finite(dtype, place, name, which):
    arrays = normal(3, 37, dtype=dtype), kernels.softmax(normal(3, 37, dtype=dtype))
    arrays[which][1, place] = np.nan
    dx = getattr(kernels, name)(*arrays)
    assert np.isfinite(dx).all(axis=1).tolist() == [True, False, True]


def test_dropout_keeps_what_is_not_finite(dtype, place, bad):
    x = normal(37, dtype=dtype)
    x[place] = bad
    keys = range(64)
    seen = [np.isfinite(kernels.dropout(x, p=0.5, key=key)).all() for key in keys]
    assert 0 < sum(seen) < len(keys)


def test_the_sum_of_squares_of_nan_or_infinity_is_not_finite(dtype, place, bad):
    x = normal(37, dtype=dtype)
    x[place] = bad
    assert not np.isfinite(kernels.sum_of_squares(x))


def test_a_product_with_a_bad_factor_is_not_finite(dtype, place, bad):
    a, b = normal(3, 37, dtype=dtype), normal(5, 37, dtype=dtype)
    a[1, place] = bad
    y = kernels.matmul(a, b, trans_b=True)
    assert np.isfinite(y).all(axis=1).tolist() == [True, False, True]


def test_fake_quantization_keeps_a_bad_number(dtype, place):
    x = normal(3, 37, dtype=dtype)
    x[1, place] = np.nan
    one = np.ones(3, dtype)
    y = kernels.fake_affine(x, one, 0 * one, low=-7, high=7)
    assert np.array_equal(np.isnan(y), np.isnan(x))


def test_the_gradient_of_fake_quantization_is_bad_where_the_one_given_is(dtype, place, bad):
    x, g = normal(3, 37, dtype=dtype), normal(3, 37, dtype=dtype)
    g[1, place] = bad
    one = np.ones(3, dtype)
    dx, ds = kernels.fake_affine_grad(g, x, one, 0 * one, low=-7, high=7)
    assert np.array_equal(np.isfinite(dx), np.isfinite(g))
    assert np.isfinite(ds).tolist() == [True, False, True]


def test_a_survey_counts_what_is_not_finite_and_leaves_it_out_of_the_sums(place, bad):
    x = normal(5000, dtype="float32")
    whole = x.astype(np.float64).sum() - x[[place, 4999]].astype(np.float64).sum()
    x[[place, 4999]] = bad
    facts = kernels.tallying.survey(x, np.zeros(2**16, np.int64))
    assert facts[0] == pytest.approx(whole, abs=1e-3)
    assert facts[5:].tolist() == ([2, 0] if np.isnan(bad) else [0, 2])
