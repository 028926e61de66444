"""Rounding that lets gradients through, against its definition."""

import numpy as np
import pytest

from entrenar_common.errors import ConfigError, ShapeError
from entrenar_core.autograd import Tensor, ops
from entrenar_core.quant import FORMATS, Grain, Integer, MinMax, format_named

LOSSY = sorted({"int2", "int4", "int8", "uint4", "nf4", "nf4-single", "f16", "bf16"})


def weights(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def test_values_are_rounded_with_halves_to_the_even_integer():
    x = Tensor(np.array([-2.5, -1.5, -0.4, 0.5, 0.6, 1.5, 2.5, 7.0]))
    assert ops.round_ste(x).data.tolist() == [-2.0, -2.0, -0.0, 0.0, 1.0, 2.0, 2.0, 7.0]


def test_the_gradient_is_that_of_the_identity():
    x = Tensor(np.array([-2.5, 0.2, 3.7], np.float32), requires_grad=True)
    ops.round_ste(x).backward(np.array([1.0, -2.0, 3.0]))
    assert x.grad.tolist() == [1.0, -2.0, 3.0]


@pytest.mark.parametrize("name", LOSSY)
def test_the_value_is_what_the_format_stores_to_the_bit(name):
    x = Tensor(weights(4, 256), requires_grad=True)
    y = ops.stored_ste(x, form=format_named(name))
    assert y.data.tobytes() == FORMATS[name].quantize(x.data).dequantize().tobytes()
    g = weights(4, 256, seed=1)
    y.backward(g)
    assert np.array_equal(x.grad, g)


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("grain", [Grain("tensor"), Grain(), Grain("group", 8)])
@pytest.mark.parametrize("bits", [2, 4, 8])
def test_the_value_is_what_integers_store_to_the_bit(bits, grain, symmetric):
    x, form = weights(4, 64), Integer(bits, symmetric, grain)
    scale, zero = MinMax().parameters(x, form)
    y = ops.fake_quantize(Tensor(x), Tensor(scale), zero, form=form)
    assert y.data.tobytes() == form.quantize(x).dequantize().tobytes()


def test_out_of_range_there_is_no_gradient():
    x = Tensor(np.array([-9.0, -7.4, -6.0, 0.0, 7.4, 7.6, 100.0]), requires_grad=True)
    ops.fake_quantize(x, Tensor(np.ones(1)), form=Integer(4)).sum().backward()
    assert x.grad.tolist() == [0, 1, 1, 1, 1, 0, 0]


def test_the_slope_of_the_smooth_staircase_is_one_on_average():
    # between two neighbouring integers it rises by one; the mean over the interval is the integral
    x = Tensor((np.arange(10_000) + 0.5) / 10_000, requires_grad=True)
    ops.fake_quantize(x, Tensor(np.ones(1)), form=Integer(8), alpha=0.2).sum().backward()
    assert x.grad.mean() == pytest.approx(1, abs=1e-6)
    # steepest in the middle between two integers: s·k/2, flattest at them: s·k/2·(1 − (1 − α)²)
    steepest = np.log(9) / 2 / 0.8
    assert x.grad.max() == pytest.approx(steepest, rel=1e-6)
    assert x.grad[5000] == pytest.approx(steepest, rel=1e-6)
    assert x.grad[0] == pytest.approx(steepest * (1 - 0.8**2), rel=1e-3)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda x: ops.fake_quantize(x, Tensor(np.ones(3)), form=Integer(4)),
            ShapeError,
            r"scale \(3,\) and zero \(3,\) for x \(2, 4\), which has 2 scales in int4",
        ),
        (
            lambda x: ops.fake_quantize(x, Tensor(np.ones(2)), form=Integer(4), alpha=1.0),
            ConfigError,
            "alpha is 1.0",
        ),
    ],
)
def test_what_makes_no_sense_is_refused(call, error, message):
    with pytest.raises(error, match=message):
        call(Tensor(np.ones((2, 4))))


@pytest.fixture
def torch():
    return pytest.importorskip("torch")


@pytest.mark.parity
@pytest.mark.parametrize("form", [Integer(4, grain=Grain("tensor")), Integer(8, False)])
def test_gradients_are_those_of_fake_quantize(form, torch):
    x, g = weights(5, 64) * 3, weights(5, 64, seed=1)
    scale = np.full(len(form.grain.blocks(x)), 2 / form.high, np.float32)
    zero = np.full(scale.shape, form.high // 3 if form.low == 0 else 0)
    ours, theirs = Tensor(x, requires_grad=True), torch.tensor(x, requires_grad=True)
    y = ops.fake_quantize(ours, Tensor(scale), zero, form=form)
    if scale.size == 1:
        wanted = torch.fake_quantize_per_tensor_affine(
            theirs, float(scale[0]), int(zero[0]), form.low, form.high
        )
    else:
        wanted = torch.fake_quantize_per_channel_affine(
            theirs, torch.tensor(scale), torch.tensor(zero).int(), 0, form.low, form.high
        )
    assert np.array_equal(y.data, wanted.detach().numpy())
    y.backward(g)
    wanted.backward(torch.tensor(g))
    assert np.array_equal(ours.grad, theirs.grad.numpy())
    assert 0.02 < (ours.grad == 0).mean() < 0.9


@pytest.mark.parity
@pytest.mark.parametrize("low", [-7, 0])
def test_the_gradient_of_the_step_is_that_of_the_learned_step_size(low, torch):
    form = Integer(4, low < 0, Grain("tensor"))
    x, g = weights(5, 64) * 3, weights(5, 64, seed=1)
    factor = 1 / np.sqrt(x.size * form.high)
    zero = np.float32([0 if low else 5])
    ours = [Tensor(x, requires_grad=True), Tensor(np.float32([0.3]), requires_grad=True)]
    theirs = [torch.tensor(t.data, requires_grad=True) for t in ours]
    y = ops.fake_quantize(*ours, zero, form=form, scale_gradient=factor)
    wanted = torch._fake_quantize_learnable_per_tensor_affine(
        *theirs, torch.tensor(zero), form.low, form.high, factor
    )
    assert np.array_equal(y.data, wanted.detach().numpy())
    y.backward(g)
    wanted.backward(torch.tensor(g))
    assert np.array_equal(ours[0].grad, theirs[0].grad.numpy())
    assert ours[1].grad == pytest.approx(theirs[1].grad.numpy(), rel=1e-4)
