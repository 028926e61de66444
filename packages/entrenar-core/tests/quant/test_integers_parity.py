"""Integers against PyTorch's fake quantization and the observers of torch.ao, to the bit."""

import numpy as np
import pytest

from entrenar_core import kernels
from entrenar_core.quant import Grain, Integer, quantize

pytestmark = pytest.mark.parity

BOTH = pytest.mark.parametrize("implementation", ["reference", "__call__"])


@pytest.fixture(scope="module")
def torch():
    return pytest.importorskip("torch")


def numbers():
    """Some on the middles between two steps of 1/4, most of them anywhere."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((7, 130)).astype(np.float32)
    x[0] = np.arange(-65, 65) / 8
    return x


@BOTH
@pytest.mark.parametrize(("low", "high"), [(-127, 127), (-7, 7), (0, 255), (0, 3)])
def test_values_of_one_scale_are_those_of_fake_quantize(implementation, low, high, torch):
    x, zero = numbers(), 0 if low else (high + 1) // 3
    wanted = torch.fake_quantize_per_tensor_affine(torch.from_numpy(x), 0.25, zero, low, high)
    found = getattr(kernels.fake_affine, implementation)(
        x.reshape(1, -1), np.float32([0.25]), np.float32([zero]), low=low, high=high
    )
    assert found.tobytes() == (wanted.numpy() + 0).tobytes()  # theirs has −0 too


@BOTH
@pytest.mark.parametrize(("low", "high"), [(-127, 127), (-7, 7), (0, 255), (0, 3)])
def test_values_of_each_channel_are_those_of_fake_quantize(implementation, low, high, torch):
    x = numbers()
    scale = np.random.default_rng(1).uniform(0.01, 1, 7).astype(np.float32)
    zero = np.zeros(7, np.int32) if low else np.arange(7, dtype=np.int32) % (high + 1)
    wanted = torch.fake_quantize_per_channel_affine(
        torch.from_numpy(x), torch.from_numpy(scale), torch.from_numpy(zero), 0, low, high
    )
    found = getattr(kernels.fake_affine, implementation)(
        x, scale, zero.astype(np.float32), low=low, high=high
    )
    assert np.array_equal(found, wanted.numpy())


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("kind", ["tensor", "channel"])
def test_scales_and_zero_points_are_those_of_the_min_max_observer(kind, bits, symmetric, torch):
    from torch.ao.quantization import MinMaxObserver, PerChannelMinMaxObserver

    form = Integer(bits, symmetric, Grain(kind))
    schemes = {
        ("tensor", True): torch.per_tensor_symmetric,
        ("tensor", False): torch.per_tensor_affine,
        ("channel", True): torch.per_channel_symmetric,
        ("channel", False): torch.per_channel_affine,
    }
    observer = {"tensor": MinMaxObserver, "channel": PerChannelMinMaxObserver}[kind](
        dtype=torch.qint8 if symmetric else torch.quint8, qscheme=schemes[kind, symmetric],
        quant_min=form.low, quant_max=form.high, eps=1e-30,
    )  # fmt: skip
    x = numbers()
    x[2], x[3] = np.abs(x[2]) + 1, -np.abs(x[3]) - 1
    observer(torch.from_numpy(x))
    scale, zero = observer.calculate_qparams()
    stored = quantize(x, form)
    assert stored.scale.tobytes() == scale.numpy().reshape(-1).tobytes()
    ours = np.zeros_like(stored.scale, np.uint8) if stored.zero is None else stored.zero
    # with symmetric codes around a middle of their own, theirs counts from quant_min
    assert ours.tolist() == zero.reshape(-1).tolist()


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_what_is_stored_is_what_fake_quantize_gives(bits, torch):
    x, form = numbers(), Integer(bits, symmetric=False)
    stored = quantize(x, form)
    wanted = torch.fake_quantize_per_channel_affine(
        torch.from_numpy(x), torch.from_numpy(stored.scale), torch.from_numpy(stored.zero).int(),
        0, form.low, form.high,
    )  # fmt: skip
    assert np.array_equal(stored.dequantize(), wanted.numpy())
