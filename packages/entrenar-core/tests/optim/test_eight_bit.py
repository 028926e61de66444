"""The blockwise code of the 8-bit optimizers, and their steps, against plain definitions."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from entrenar_core import kernels
from entrenar_core.autograd import Parameter
from entrenar_core.kernels.blockwise import BLOCK, dynamic_map, nearest_table
from entrenar_core.optim import Adam, AdamOptions, AdamW
from entrenar_core.testing import difference

SIGNED = pytest.mark.parametrize("signed", [True, False])


@SIGNED
def test_the_map_has_256_different_entries_from_its_definition(signed):
    wanted = [0.0, 1.0]
    for decade in range(7):
        parts = 2 ** (decade + (not signed))
        middles = 0.1 + 0.9 * (np.arange(parts) + 0.5) / parts
        wanted += list(middles * 10.0 ** (decade - 6))
        wanted += list(-middles * 10.0 ** (decade - 6)) if signed else []
    assert np.unique(dynamic_map(signed)).size == 256
    assert np.allclose(dynamic_map(signed), np.sort(wanted), rtol=3e-7, atol=0)
    assert not dynamic_map(signed).flags.writeable


@SIGNED
def test_every_range_of_the_table_has_at_most_one_limit(signed):
    start, limits = nearest_table(signed)
    highest = np.arange(65536, dtype=np.uint32) << 16
    highest[:32768] |= 0xFFFF
    with np.errstate(invalid="ignore"):
        values = highest.view(np.float32)
    finite = np.isfinite(values)
    codes = np.searchsorted(limits, values[finite], side="left")
    assert set(codes - start[finite].astype(int)) == {0, 1}


def nearest(x, signed):
    """Codes and scales by trying every entry."""
    entries = dynamic_map(signed)
    codes, scales = [], []
    for start in range(0, x.size, BLOCK):
        block = x[start : start + BLOCK]
        scale = np.abs(block).max()
        scales.append(scale)
        with np.errstate(divide="ignore", invalid="ignore"):
            scaled = block * (np.float32(1) / scale)
        distances = np.abs(scaled[:, None] - entries)
        codes.append(np.argmin(distances, axis=1) if scale else np.zeros(block.size))
    return np.concatenate(codes).astype(np.uint8), np.array(scales, np.float32)


def spread(size, signed, seed=0):
    rng = np.random.default_rng(seed)
    x = (rng.standard_normal(size) * np.exp(4 * rng.standard_normal(size))).astype(np.float32)
    x[BLOCK : 2 * BLOCK] = 0
    x[:7] = 0
    return x if signed else np.abs(x)


def midpoints(signed):
    """The middles between two entries, their neighbours, and the entries; each block has a 1."""
    entries = dynamic_map(signed)
    middles = (entries[:-1] + entries[1:]) / 2
    x = np.concatenate([middles, np.nextafter(middles, -2), np.nextafter(middles, 2), entries])
    x = np.resize(x.astype(np.float32), (5, 255))
    return np.concatenate([x, np.ones((5, 1), np.float32)], axis=1).reshape(-1)


@pytest.mark.tier2
@SIGNED
@pytest.mark.parametrize("quantize", ["reference", "__call__"])
def test_the_code_is_that_of_the_nearest_entry_and_the_lower_of_two(quantize, signed):
    function = getattr(kernels.quantize_blockwise, quantize)
    for x in (spread(5000, signed), spread(1, signed), midpoints(signed)):
        codes, scales = function(x, signed=signed)
        wanted_codes, wanted_scales = nearest(x, signed)
        assert np.array_equal(codes, wanted_codes)
        assert np.array_equal(scales, wanted_scales)


@SIGNED
def test_decoding_looks_up_the_entry_and_scales_it(signed):
    codes, scales = np.arange(600).astype(np.uint8), np.array([2.0, 0.0, 1e-20], np.float32)
    wanted = dynamic_map(signed)[codes] * np.repeat(scales, BLOCK)[:600]
    for function in (kernels.dequantize_blockwise, kernels.dequantize_blockwise.reference):
        assert np.array_equal(function(codes, scales, signed=signed), wanted)


FLOATS = st.floats(-(2.0**99), 2.0**99, width=32, allow_subnormal=False)


@pytest.mark.tier2
@SIGNED
@settings(max_examples=50, deadline=None)
@given(x=arrays.arrays(np.float32, st.integers(1, 700), elements=FLOATS))
def test_coding_what_was_decoded_gives_the_same_codes(signed, x):
    x = x if signed else np.abs(x)
    codes, scales = kernels.quantize_blockwise(x, signed=signed)
    once = kernels.dequantize_blockwise(codes, scales, signed=signed)
    again, same_scales = kernels.quantize_blockwise(once, signed=signed)
    positive = np.repeat(np.maximum.reduceat(x, np.arange(0, x.size, BLOCK)), BLOCK)[: x.size]
    whole = positive == np.repeat(scales, BLOCK)[: x.size]  # -1 has no entry of its own
    twice = kernels.dequantize_blockwise(again, same_scales, signed=signed)
    assert np.allclose(twice[whole], once[whole], rtol=1e-6, atol=1e-35)


@pytest.mark.tier2
@SIGNED
@settings(max_examples=50, deadline=None)
@given(x=arrays.arrays(np.float32, st.integers(1, 700), elements=FLOATS))
def test_the_error_is_at_most_half_the_largest_gap_between_entries(signed, x):
    x = x if signed else np.abs(x)
    codes, scales = kernels.quantize_blockwise(x, signed=signed)
    found = kernels.dequantize_blockwise(codes, scales, signed=signed)
    gap = np.diff(dynamic_map(signed)).max()
    error = np.abs(found - x) / np.maximum(np.repeat(scales, BLOCK)[: x.size], 1e-37)
    assert error.max() <= gap / 2 * (1 + 1e-5)


@SIGNED
def test_blocks_whose_scale_has_no_finite_inverse_stay_between_zero_and_their_numbers(signed):
    x = np.full(BLOCK, 1e-42, np.float32)
    x[3] = 0
    for function in (kernels.quantize_blockwise, kernels.quantize_blockwise.reference):
        codes, scales = function(x, signed=signed)
        found = kernels.dequantize_blockwise(codes, scales, signed=signed)
        assert found[3] == 0
        assert ((found >= 0) & (found <= x)).all()


@SIGNED
def test_nan_and_infinity_stay_visible(signed):
    for bad in (np.nan, np.inf):
        x = np.ones(2 * BLOCK, np.float32)
        x[5] = bad
        with np.errstate(invalid="ignore"):
            for function in (kernels.quantize_blockwise, kernels.quantize_blockwise.reference):
                codes, scales = function(x, signed=signed)
                found = kernels.dequantize_blockwise(codes, scales, signed=signed)
                assert not np.isfinite(found[5])
                assert np.array_equal(found[BLOCK:], x[BLOCK:])


def plain_eight_bit(p, gradients, *, beta1, beta2, eps, weight_decay, lr, decoupled):
    """8-bit Adam for one array, with the whole of the moments decoded and coded in each step."""
    m, v = (np.zeros(p.size, np.uint8) for _ in range(2))
    m_scales, v_scales = (np.zeros(-(-p.size // BLOCK), np.float32) for _ in range(2))
    for t, gradient in enumerate(gradients, 1):
        g = gradient.ravel()
        if decoupled:
            p = p - lr * weight_decay * p
        else:
            g = g + weight_decay * p.ravel()
        decoded_m = dynamic_map(True)[m] * np.repeat(m_scales, BLOCK)[: p.size]
        decoded_v = dynamic_map(False)[v] * np.repeat(v_scales, BLOCK)[: p.size]
        mean = beta1 * decoded_m.astype(np.float64) + (1 - beta1) * g
        square = beta2 * decoded_v.astype(np.float64) + (1 - beta2) * g**2
        step = mean / (1 - beta1**t) / (np.sqrt(square / (1 - beta2**t)) + eps)
        p = p - lr * step.reshape(p.shape)
        m, m_scales = nearest(mean.astype(np.float32), True)
        v, v_scales = nearest(square.astype(np.float32), False)
    return p, m, v, m_scales, v_scales


@pytest.mark.tier2
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("optimizer_class", [Adam, AdamW])
@pytest.mark.parametrize("shape", [(64, 64), (5003,)])
@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_a_step_is_decode_update_encode(weight_decay, shape, optimizer_class, dtype):
    rng = np.random.default_rng(0)
    options = {"beta1": 0.9, "beta2": 0.99, "eps": 1e-4, "weight_decay": weight_decay}
    start = rng.standard_normal(shape)
    gradients = [rng.standard_normal(shape).astype(dtype) for _ in range(8)]
    decoupled = optimizer_class is AdamW
    rule = {"decays": lambda *_: True}
    weight, other = Parameter(start.astype(dtype)), Parameter(np.ones((70, 70), dtype))
    # another parameter in the same flat memory
    optimizer = optimizer_class({"other": other, "w": weight}, state_bits=8, **options, **rule)
    for gradient in gradients:
        weight.grad, other.grad = gradient, np.full((70, 70), 1e3, dtype)
        optimizer.step(0.05)
    wanted, m, v, m_scales, v_scales = plain_eight_bit(
        start, [g.astype(np.float64) for g in gradients], lr=0.05, decoupled=decoupled, **options
    )
    state, kind = optimizer.state(), optimizer_class.kind
    found = {slot: state[f"{kind}.{slot}.w"] for slot in ("m", "v", "m_absmax", "v_absmax")}
    assert found["m"].shape == shape
    bound = {"float32": 1e-5, "float64": 1e-10}[dtype]
    if dtype == "float64":
        assert np.array_equal(found["m"].ravel(), m)
        assert np.array_equal(found["v"].ravel(), v)
    else:  # a moment between two entries may go to either of them
        assert np.abs(found["m"].ravel().astype(int) - m).max() <= 1
        assert (found["m"].ravel() != m).mean() + (found["v"].ravel() != v).mean() < 1e-2
        bound = 1e-3
    assert difference(found["m_absmax"], m_scales) <= bound
    assert difference(found["v_absmax"], v_scales) <= bound
    assert difference(weight.data, wanted) <= bound


@pytest.mark.tier2
@pytest.mark.parametrize("optimizer_class", [Adam, AdamW])
def test_no_full_copy_of_the_state_is_made(optimizer_class):
    import tracemalloc

    size = 1 << 22
    weight = Parameter(np.ones(size, np.float32))
    optimizer = optimizer_class({"w": weight}, state_bits=8)
    assert sum(view.nbytes for view in optimizer.state().values()) < 2.05 * size
    weight.grad = weight.grad_buffer
    optimizer.step(0.1)
    tracemalloc.start()
    optimizer.step(0.1)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < size / 8


def test_a_group_may_keep_its_moments_in_full():
    members = {name: Parameter(np.ones((64, 64), np.float32)) for name in ("embed", "layer")}
    optimizer = Adam(members, state_bits=8, groups={"embed": AdamOptions(state_bits=32)})
    assert {n: view.dtype.name for n, view in optimizer.state().items() if ".v." in n} == {
        "adam.v.embed": "float32",
        "adam.v.layer": "uint8",
    }


def test_eight_bits_are_close_to_full_moments():
    rng = np.random.default_rng(0)
    start = rng.standard_normal((64, 64)).astype(np.float32)
    full, coded = Parameter(start.copy()), Parameter(start.copy())
    optimizers = [Adam({"w": full}), Adam({"w": coded}, state_bits=8)]
    for _ in range(20):
        gradient = (start + 0.1 * rng.standard_normal(start.shape)).astype(np.float32)
        for parameter, optimizer in zip((full, coded), optimizers, strict=True):
            parameter.grad = gradient
            optimizer.step(1e-2)
    moved = np.abs(full.data - start).mean()
    assert np.abs(coded.data - full.data).mean() < 0.1 * moved
