"""Frozen weights in 16 bits: exactly what widening them first would give, without the copy."""

import tracemalloc

import ml_dtypes
import numpy as np
import pytest

from entrenar_core import kernels
from entrenar_core.autograd import Tensor, ops
from entrenar_core.distill import Divergence
from entrenar_core.kernels import panels
from entrenar_core.testing import difference

NARROW = [np.dtype(ml_dtypes.bfloat16), np.dtype(np.float16)]
each_dtype = pytest.mark.parametrize("dtype", NARROW, ids=str)


def normal(*shape):
    return np.random.default_rng(0).standard_normal(shape, np.float32)


@each_dtype
def test_nan_and_infinity_stay_what_they_are(dtype):
    x = np.array([[np.nan, np.inf, -np.inf, 0.0, -0.0]], np.float32)
    wide = kernels.widen(x.astype(dtype))
    assert np.array_equal(wide, x, equal_nan=True)
    assert np.array_equal(np.signbit(wide[0, 1:]), np.signbit(x[0, 1:]))


@each_dtype
@pytest.mark.parametrize("trans_b", [False, True])
@pytest.mark.parametrize("panel", [1, 700, 1 << 20])
def test_a_product_with_narrow_weights_is_that_with_the_widened_ones(
    dtype, trans_b, panel, monkeypatch
):
    monkeypatch.setattr(panels, "PANEL", panel)
    a, b = normal(33, 40), normal(*((70, 40) if trans_b else (40, 70))).astype(dtype)
    found = kernels.matmul(a, b, trans_b=trans_b)
    assert difference(found, kernels.matmul(a, b.astype(np.float32), trans_b=trans_b)) <= 1e-6


@each_dtype
def test_a_product_with_narrow_weights_is_added_to_what_is_there(dtype):
    a, b, out = normal(3, 4), normal(5, 4).astype(dtype), normal(3, 5)
    wanted = out + a @ b.astype(np.float32).T
    assert difference(kernels.matmul(a, b, trans_b=True, out=out, add=True), wanted) <= 1e-6


@each_dtype
def test_no_wide_copy_of_the_weights_exists(dtype):
    a, b = normal(1, 2048), normal(4096, 2048).astype(dtype)
    kernels.matmul(a, b, trans_b=True)
    tracemalloc.start()
    kernels.matmul(a, b, trans_b=True)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < b.size * 4 / 7  # a panel is an eighth of this matrix


@each_dtype
def test_gradients_pass_through_frozen_narrow_weights(dtype):
    weight, table = normal(5, 4).astype(dtype), normal(7, 4).astype(dtype)
    ids = np.array([[1, 6], [0, 1]])

    def result(widened):
        w, e = (Tensor(x.astype(np.float32) if widened else x) for x in (weight, table))
        x = Tensor(normal(2, 2, 4), requires_grad=True)
        y = ops.linear(x + ops.embedding(e, ids), w)
        y.backward(np.ones(y.shape))
        return y.data, x.grad

    for narrow, wide in zip(result(False), result(True), strict=True):
        assert narrow.dtype == np.float32
        assert difference(narrow, wide) <= 1e-6


@each_dtype
def test_a_teacher_may_have_a_narrow_head(dtype):
    hidden, weight = Tensor(normal(6, 4), requires_grad=True), normal(9, 4)
    teacher_weight, targets = normal(9, 5).astype(dtype), np.array([1, 2, -100, 8, 0, 3])

    def loss(head):
        return ops.linear_distillation(
            hidden, weight, targets, expected=ops.FromHidden(normal(6, 5), head, shared=9),
            divergence=Divergence(temperature=2.0), alpha=0.5, normalizer=5,
            parts=ops.DistillationParts(),
        ).item()  # fmt: skip

    assert loss(teacher_weight) == pytest.approx(loss(teacher_weight.astype(np.float32)), rel=1e-6)


@each_dtype
def test_rounding_any_bits_gives_what_numpy_gives(dtype):
    bits = np.random.default_rng(0).integers(0, 2**32, (64, 4096), dtype=np.uint32)
    bits[:32] &= 0xFFFFF000  # ties and neighbours of ties
    x = bits.view(np.float32)
    with np.errstate(over="ignore", invalid="ignore"):  # NaNs that signal are among them
        wanted = x.astype(dtype)
    found = kernels.rounded(x, out=np.empty(x.shape, dtype))
    kept = ~np.isnan(x)
    assert np.array_equal(found.view(np.uint16)[kept], wanted.view(np.uint16)[kept])
    assert np.isnan(found[~kept].astype(np.float32)).all()
