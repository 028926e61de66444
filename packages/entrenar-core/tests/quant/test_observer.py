"""Ranges, from definitions and by looking at all candidates."""

import numpy as np
import pytest

from entrenar_common.errors import CheckpointError, ConfigError, NumericsError
from entrenar_core.quant import Grain, Integer, LeastError, MinMax, Percentile, RunningRange

ROWS, WHOLE, GROUPS = Grain(), Grain("tensor"), Grain("group", 10)
EACH_GRAIN = pytest.mark.parametrize("grain", [ROWS, WHOLE, GROUPS], ids=lambda g: g.kind)


def weights(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def squared_error(row, low, high, form):
    """Of integers between the ends `low` and `high`, in float64."""
    if form.symmetric:
        scale, zero = max(-low, high) / form.high, 0
    else:
        scale = (max(high, 0) - min(low, 0)) / form.high
        zero = np.clip(np.rint(-min(low, 0) / scale), 0, form.high)
    q = np.clip(np.rint(row / scale) + zero, form.low, form.high)
    return np.square((q - zero) * scale - row).sum()


@EACH_GRAIN
def test_min_max_goes_from_the_smallest_to_the_largest_number(grain):
    x = weights(4, 30)
    low, high = MinMax().ranges(grain.blocks(x), Integer(8, grain=grain))
    parts = {"channel": x, "tensor": [x.ravel()], "group": x.reshape(12, 10)}[grain.kind]
    assert low.tolist() == [min(part) for part in parts]
    assert high.tolist() == [max(part) for part in parts]


@pytest.mark.parametrize("percent", [90.0, 99.0, 100.0])
def test_a_percentile_leaves_out_the_largest_magnitudes(percent):
    x = weights(3, 1001)
    low, high = Percentile(percent).ranges(x, Integer(8))
    left_out = (np.abs(x) > high[:, None]).sum(axis=1)
    assert np.array_equal(low, -high)
    assert left_out.tolist() == [round(10 * (100 - percent))] * 3


@pytest.mark.parametrize("percent", [90.0, 99.0, 100.0])
def test_an_asymmetric_percentile_leaves_out_both_ends(percent):
    x = weights(3, 1001)
    low, high = Percentile(percent).ranges(x, Integer(8, symmetric=False))
    assert (x > high[:, None]).sum(axis=1).tolist() == [round(10 * (100 - percent))] * 3
    assert (x < low[:, None]).sum(axis=1).tolist() == [round(10 * (100 - percent))] * 3


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("bits", [2, 3, 4])
def test_the_search_finds_the_least_squared_error_of_all_steps(bits, symmetric):
    x, form = weights(5, 64), Integer(bits, symmetric)
    low, high = LeastError(20).ranges(x, form)
    for row, found_low, found_high in zip(x.astype(float), low, high, strict=True):
        errors = [
            squared_error(row, row.min() * i / 20, row.max() * i / 20, form) for i in range(1, 21)
        ]
        found = squared_error(row, float(found_low), float(found_high), form)
        assert found == pytest.approx(min(errors), rel=1e-4)


def test_at_few_bits_a_search_is_better_than_the_full_range():
    x, form = weights(5, 256), Integer(3)
    for row in x:
        low, high = LeastError().ranges(row[None], form)
        full = squared_error(row, row.min(), row.max(), form)
        assert squared_error(row, low[0], high[0], form) < 0.8 * full


@EACH_GRAIN
def test_a_running_range_is_as_wide_as_the_widest_array(grain):
    arrays = [weights(4, 30, seed=i) * (1 + i % 3) for i in range(5)]
    form = Integer(8, symmetric=False, grain=grain)
    running = RunningRange(form)
    for array in arrays:
        running.update(array)
    together = np.stack([grain.blocks(a) for a in arrays])  # (arrays, S, L)
    wanted = form.parameters(together.min(axis=(0, 2)), together.max(axis=(0, 2)))
    assert np.array_equal(running.parameters(), wanted)


def test_a_range_with_momentum_follows_by_its_formula():
    running = RunningRange(Integer(8, grain=WHOLE), momentum=0.25)
    low = high = None
    for seed in range(4):
        x = weights(20, seed=seed)
        running.update(x)
        low = x.min() if low is None else 0.75 * low + 0.25 * x.min()
        high = x.max() if high is None else 0.75 * high + 0.25 * x.max()
    assert running.low == pytest.approx(low, rel=1e-6)
    assert running.high == pytest.approx(high, rel=1e-6)


def test_a_range_that_is_restored_goes_on_as_if_nothing_had_happened():
    first, second = (RunningRange(Integer(8), momentum=0.1) for _ in range(2))
    second.restore(first.state())
    first.update(weights(4, 30))
    second.restore({name: array.copy() for name, array in first.state().items()})
    for running in (first, second):
        running.update(weights(4, 30, seed=1))
    assert np.array_equal(first.parameters(), second.parameters())


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: Percentile(50), ConfigError, "a range of 50 percent"),
        (lambda: LeastError(0), ConfigError, "a search in 0 steps"),
        (lambda: RunningRange(Integer(8), momentum=0), ConfigError, "a momentum of 0"),
        (lambda: RunningRange(Integer(8)).parameters(), NumericsError, "no numbers have been"),
        (lambda: RunningRange(Integer(8)).restore({"x": 1}), CheckpointError, "and not x"),
        (lambda: RunningRange(Integer(8)).update(np.array([np.nan])), NumericsError, "is nan"),
    ],
)
def test_what_makes_no_sense_is_refused(make, error, message):
    with pytest.raises(error, match=message):
        make()


@pytest.mark.parity
@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("momentum", [None, 0.01, 0.3])
def test_running_ranges_are_those_of_torch(symmetric, momentum):
    torch = pytest.importorskip("torch")
    from torch.ao.quantization import MinMaxObserver, MovingAverageMinMaxObserver

    form = Integer(8, symmetric, WHOLE)
    options = {
        "dtype": torch.qint8 if symmetric else torch.quint8,
        "qscheme": torch.per_tensor_symmetric if symmetric else torch.per_tensor_affine,
        "quant_min": form.low, "quant_max": form.high, "eps": 1e-30,
    }  # fmt: skip
    theirs = MinMaxObserver(**options)
    if momentum is not None:
        theirs = MovingAverageMinMaxObserver(averaging_constant=momentum, **options)
    running = RunningRange(form, momentum=momentum)
    for seed in range(5):
        x = weights(7, 30, seed=seed) * (1 + seed % 2)
        theirs(torch.from_numpy(x))
        running.update(x)
    scale, zero = theirs.calculate_qparams()
    found = running.parameters()
    assert found[0] == pytest.approx(scale.numpy(), rel=1e-6)
    assert found[1].tolist() == zero.tolist()
