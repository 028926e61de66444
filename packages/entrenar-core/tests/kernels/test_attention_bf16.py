"""Attention with products of bfloat16 numbers: what is rounded, and what is not."""

import ml_dtypes
import numpy as np
import pytest

from entrenar_core import kernels
from entrenar_core.autograd import Tensor, ops
from entrenar_core.autograd.precision import BF16, multiplied_in
from entrenar_core.kernels import KERNELS
from entrenar_core.testing import difference

SCALE = 0.3
STEP = 2.0**-8
"""From one bfloat16 to the next, of numbers from 1 to 2."""


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


def near(x):
    return np.asarray(x, np.float32).astype(ml_dtypes.bfloat16).astype(np.float64)


def heads(b=2, t=70, s=70, h=4, g=2, d=48):
    return normal(b, t, h, d), normal(b, s, g, d, seed=1), normal(b, s, g, d, seed=2)


def cosine(a, b):
    a, b = (np.asarray(x, np.float64) for x in (a, b))
    return (a * b).sum() / np.sqrt((a * a).sum() * (b * b).sum())


def weights_of(q, k):
    """Causal weights (B, H, T, S) and log-sum-exps in float64, of operands that are rounded."""
    repeats = q.shape[2] // k.shape[2]
    scores = SCALE * np.einsum("bthd,bshd->bhts", near(q), np.repeat(near(k), repeats, 2))
    t, s = scores.shape[2:]
    scores = np.where(np.tri(t, s, s - t, bool), scores, -np.inf)
    lse = np.log(np.exp(scores).sum(axis=-1))
    return np.exp(scores - lse[..., None]), lse


@pytest.fixture(params=["reference", "kernel"])
def forward(request):
    kernel = KERNELS["attention_bf16.attention_bf16"]
    return kernel.reference if request.param == "reference" else kernel


@pytest.fixture(params=["reference", "kernel"])
def backward(request):
    kernel = KERNELS["attention_bf16.attention_bf16_grad"]
    return kernel.reference if request.param == "reference" else kernel


def test_scores_are_those_of_rounded_queries_and_keys(forward):
    q, k, v = heads(s=90)
    _, lse = forward(q, k, v, scale=SCALE)
    assert difference(lse, weights_of(q, k)[1]) <= 2e-7
    assert difference(kernels.attention(q, k, v, scale=SCALE)[1], weights_of(q, k)[1]) > 1e-5


def test_values_are_weighed_by_rounded_weights(forward):
    q, k, v = heads(s=90)
    o, _ = forward(q, k, v, scale=SCALE)
    weights, _ = weights_of(q, k)
    wanted = np.einsum("bhts,bshd->bthd", weights, np.repeat(near(v), 2, 2))
    # a weight moves by half a step at most, and the sum that it is divided by as well
    bound = np.einsum("bhts,bshd->bthd", weights, np.repeat(np.abs(near(v)), 2, 2))
    assert (np.abs(o - wanted) <= STEP * bound).all()


def test_rounded_weights_add_up_to_one(forward):
    q, k, _ = heads(s=90)
    v = np.full(k.shape, 0.7109375, np.float32)  # a bfloat16
    o, _ = forward(q, k, v, scale=SCALE)
    assert difference(o, np.full(o.shape, 0.7109375)) <= 1e-6


def test_one_key_alone_gives_its_rounded_value_and_no_gradient():
    q, k, v = heads()
    o, lse = kernels.attention_bf16(q, k, v, scale=SCALE, window=1)
    assert np.array_equal(o, np.repeat(near(v), 2, 2))
    dq, dk, _, _ = kernels.attention_bf16_grad(o, q, k, v, o, lse, scale=SCALE, window=1)
    assert not dq.any()
    assert not dk.any()


def test_results_do_not_depend_on_which_keys_come_first(forward):
    """The running peak, and with it what is rounded, would differ."""
    q, k, v = heads(t=8, s=200)
    options = {"scale": SCALE, "causal": False}
    o, lse = forward(q, k, v, **options)
    turned, turned_lse = forward(q, k[:, ::-1].copy(), v[:, ::-1].copy(), **options)
    assert difference(turned_lse, lse) <= 4e-7
    assert np.median(np.abs(turned - o)) <= 1e-7


def test_large_scores_leave_the_largest(forward):
    q, k, v = heads(t=3, s=70)
    for scale in (1e4, 1e7, 1e12):
        o, lse = forward(q, k, v, scale=scale, causal=False)
        highest = np.einsum("bthd,bshd->bhts", near(q), np.repeat(near(k), 2, 2)).argmax(-1)
        chosen = np.take_along_axis(
            np.repeat(near(v), 2, 2).transpose(0, 2, 1, 3), highest[..., None], 2
        )
        assert difference(o, chosen.transpose(0, 2, 1, 3)) <= 1e-6
        assert np.isfinite(lse).all()


def test_the_gradient_multiplies_rounded_operands(backward):
    q, k, v = heads()
    g = normal(*q.shape, seed=3)
    o, lse = kernels.attention_bf16(q, k, v, scale=SCALE)
    dq, dk, dv, _ = backward(g, q, k, v, o, lse, scale=SCALE)
    weights, _ = weights_of(q, k)
    wide_k, wide_v = (np.repeat(near(x), 2, 2) for x in (k, v))
    slopes = np.einsum("bthd,bshd->bhts", near(g), wide_v)
    slopes -= (near(g) * o).sum(-1).transpose(0, 2, 1)[..., None]
    slopes = near(weights * slopes)
    grouped = (2, 70, 2, 2, 48)
    wanted_q = SCALE * np.einsum("bhts,bshd->bthd", slopes, wide_k)
    wanted_k = SCALE * np.einsum("bhts,bthd->bshd", slopes, near(q)).reshape(grouped).sum(3)
    wanted_v = np.einsum("bhts,bthd->bshd", near(weights), near(g)).reshape(grouped).sum(3)
    for found, wanted in ((dq, wanted_q), (dk, wanted_k), (dv, wanted_v)):
        assert np.median(np.abs(found - wanted)) <= 2e-7 * np.abs(wanted).max()
        assert difference(found, wanted) <= STEP


@pytest.mark.parametrize("dropout", [0.0, 0.2])
def test_gradients_point_where_those_of_float32_do(dropout):
    arrays = heads(t=200, s=200)
    g = normal(*arrays[0].shape, seed=3)

    def gradients():
        q, k, v = (Tensor(x, requires_grad=True) for x in arrays)
        ops.attention(q, k, v, scale=SCALE, dropout=dropout, key=5).backward(g)
        return q.grad, k.grad, v.grad

    whole = gradients()
    with multiplied_in(BF16):
        rounded = gradients()
    for a, b in zip(whole, rounded, strict=True):
        assert not np.array_equal(a, b)
        assert cosine(a, b) > 0.9999


def test_the_way_back_multiplies_as_the_way_there_did():
    q, k, v = (Tensor(x, requires_grad=True) for x in heads())
    g = normal(*q.shape, seed=3)
    with multiplied_in(BF16):
        y = ops.attention(q, k, v, scale=SCALE)
    y.backward(g)
    arrays = q.data, k.data, v.data
    o, lse = kernels.attention_bf16(*arrays, scale=SCALE)
    wanted = kernels.attention_bf16_grad(g, *arrays, o, lse, scale=SCALE)
    for tensor, gradient in zip((q, k, v), wanted, strict=False):
        assert np.array_equal(tensor.grad, gradient)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_bad_key_is_seen_by_those_who_may_look_there(bad):
    q, k, v = heads(t=37, s=37)
    k[0, 20, 1, 2] = bad
    with np.errstate(invalid="ignore"):
        o, lse = kernels.attention_bf16(np.abs(q), k, v, scale=SCALE)
    good = [t < 20 for t in range(37)]
    assert np.isfinite(o[0, :, 2:]).all(axis=(1, 2)).tolist() == good
    assert np.isfinite(lse[0, 2:]).all(axis=0).tolist() == good
    assert np.isfinite(o[0, :, :2]).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_bad_value_is_not_finite_where_it_is_seen(bad):
    q, k, v = heads(t=37, s=37)
    v[0, 20, 1, 2] = bad
    o, _ = kernels.attention_bf16(q, k, v, scale=SCALE)
    assert not np.isfinite(o[0, 20:, 2:, 2]).any()
    assert np.isfinite(o[0, :, :2]).all()


def test_no_queries_and_no_keys_give_nothing():
    for b, t, s in ((0, 3, 5), (2, 0, 5), (2, 0, 0)):
        q, k, v = heads(b=b, t=t, s=s)
        o, lse = kernels.attention_bf16(q, k, v, scale=SCALE)
        assert (o.shape, lse.shape) == (q.shape, (b, 4, t))
        dq, dk, dv, _ = kernels.attention_bf16_grad(o, q, k, v, o, lse, scale=SCALE)
        assert (dq.shape, dk.shape, dv.shape) == (q.shape, k.shape, v.shape)
        assert not (dk.any() or dv.any())


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"causal": False},
        {"window": 9},
        {"window": 9, "causal": False},
        {"dropout": 0.3, "key": 5},
        {"mask": np.arange(90)[None, :] < np.array([[90], [61]])},
        {"first": np.broadcast_to((np.arange(20, 90) // 40 * 40)[None], (2, 70))},
    ],
)
def test_blocks_of_queries_give_what_all_of_them_give(options, monkeypatch):
    # what a processor without instructions for bfloat16 does
    from entrenar_core.kernels.cpu import attention_bf16 as code

    monkeypatch.setattr(code, "BLOCK", 16)
    q, k, v = heads(s=90)
    wanted = kernels.attention_bf16.reference(q, k, v, scale=SCALE, **options)
    found = code._in_blocks(q, k, v, scale=SCALE, **options)
    for a, b in zip(found, wanted, strict=True):
        assert difference(a, b) <= 1e-6
    g = normal(*q.shape, seed=3)
    wanted = kernels.attention_bf16_grad.reference(g, q, k, v, *wanted, scale=SCALE, **options)
    found = code._in_blocks_grad(g, q, k, v, *found, scale=SCALE, **options)
    for a, b in zip(found[:3], wanted[:3], strict=True):
        assert cosine(a, b) > 1 - 1e-9
