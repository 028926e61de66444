"""Learned steps, noise, schedules and inputs of a quantized model, from their definitions."""

import numpy as np
import pytest

from entrenar_common.errors import CheckpointError, ConfigError
from entrenar_core.autograd import Tensor, ops
from entrenar_core.nn import Linear, Module
from entrenar_core.optim import AdamW
from entrenar_core.qat import LowerBits, MoreMatrices, QatConfig, Schedule, prepare
from entrenar_core.quant import FORMATS, Grain, Integer, Percentile
from entrenar_core.testing import difference

WHOLE = Grain("tensor")


class Layers(Module):
    """Some linear layers, one after the other."""

    def __init__(self, count=1, width=64, dtype="float32"):
        rng = np.random.default_rng(0)
        self.layers = [Linear(width, width, bias=False, dtype=dtype) for _ in range(count)]
        for layer in self.layers:
            layer.weight.data[...] = rng.standard_normal((width, width))

    def __call__(self, x):
        for layer in self.layers:
            x = layer(x)
        return x


def weights_at(quantized, step):
    with quantized.active(step):
        return [layer.weight.data.copy() for layer in quantized.model.layers]


def inputs(*shape, seed=1):
    return np.random.default_rng(seed).standard_normal(shape)


# --- formats -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_trains_with_what_it_stores_to_the_bit(name):
    model = Layers(width=256)
    quantized = prepare(model, QatConfig(weights=name))
    (stored,) = quantized.stored().values()
    assert stored.form == FORMATS[name]
    assert weights_at(quantized, 0)[0].tobytes() == stored.dequantize().tobytes()
    wanted = FORMATS[name].quantize(model.layers[0].weight.data).dequantize()
    assert np.array_equal(stored.dequantize(), wanted)


@pytest.mark.parametrize("name", ["q4_0", "q4_1", "q5_0", "q5_1", "q8_0", "int4", "int8"])
def test_finished_weights_stored_again_are_the_same(name):
    model = Layers(width=256)
    quantized = prepare(model, QatConfig(weights=name))
    (before,) = quantized.stored().values()
    quantized.finish()
    (after,) = quantized.stored().values()
    assert np.array_equal(after.dequantize(), before.dequantize())


# --- learned steps -----------------------------------------------------------------------------


@pytest.mark.parametrize("grain", [WHOLE, Grain(), Grain("group", 16)])
def test_the_gradient_of_a_learned_step_is_that_of_lsq(grain):
    model = Layers(dtype="float64")
    form = Integer(3, grain=grain)
    quantized = prepare(model, QatConfig(weights=form, gradient="learnable", observer="mse"))
    (parameter,) = quantized.parameters().values()
    x = inputs(7, 64)
    with quantized.active(0):
        model(Tensor(x)).sum().backward()
    w = model.layers[0].weight
    of_w = np.broadcast_to(x.sum(axis=0), w.shape)  # of the weight as it is used
    step = np.exp(parameter.data)
    blocks, gradient = grain.blocks(w.data), grain.blocks(of_w)
    v = blocks / step[:, None]
    # Esser et al. 2020, equation 3, and the factor of section 2.2; then d step = step · d log step
    factor = 1 / np.sqrt(blocks.shape[1] * 3)
    inside = np.abs(np.rint(v)) <= 3
    slope = np.where(inside, np.rint(v) - v, 3 * np.sign(v))
    wanted = (gradient * slope).sum(axis=1) * factor * step
    assert difference(parameter.grad, wanted) <= 1e-12
    assert difference(grain.blocks(w.grad), gradient * inside) <= 1e-12


def test_learned_steps_move_with_the_optimizer_and_stay_positive():
    model = Layers()
    quantized = prepare(model, QatConfig(weights="int2", gradient="learnable"))
    optimizer = AdamW({**model.named_parameters(), **quantized.parameters()}, weight_decay=0.1)
    before = {n: p.data.copy() for n, p in quantized.parameters().items()}
    for step in range(5):
        optimizer.zero_grad()
        with quantized.active(step):
            (model(Tensor(inputs(7, 64).astype(np.float32))) ** 2).mean().backward()
        optimizer.step(0.5)
    (stored,) = quantized.stored().values()
    ((name, after),) = quantized.parameters().items()
    assert name == "qat.layers.0.weight.log_step"
    assert (after.data != before[name]).all()
    assert np.array_equal(stored.scale, np.exp(after.data))
    assert (stored.scale > 0).all()


# --- noise -------------------------------------------------------------------------------------


def test_noise_quantizes_its_share_of_the_weights_in_whole_blocks():
    model = Layers(width=256)
    w = model.layers[0].weight.data
    full = weights_at(prepare(model, QatConfig(weights="q4_0")), 0)[0]
    noisy = weights_at(prepare(model, QatConfig(weights="q4_0", noise=0.25)), 0)[0]
    chosen = (noisy == full).reshape(-1, 32).all(axis=1)
    left = (noisy == w).reshape(-1, 32).all(axis=1)
    assert (chosen | left).all()
    # 2,048 blocks: the share is within 4 standard deviations of √(p(1 − p)/n)
    assert abs(chosen.mean() - 0.25) < 4 * np.sqrt(0.25 * 0.75 / chosen.size)


def test_noise_is_a_function_of_seed_step_and_matrix():
    def drawn(step, seed=0):
        return weights_at(prepare(Layers(2), QatConfig(weights="int4", noise=0.5, seed=seed)), step)

    again, first = drawn(3), drawn(3)
    assert all(np.array_equal(x, y) for x, y in zip(first, again, strict=True))
    assert (drawn(4)[0] != first[0]).any()
    assert (drawn(3, seed=1)[0] != first[0]).any()
    model = Layers(2)
    model.layers[1].weight.data[...] = model.layers[0].weight.data
    one, two = weights_at(prepare(model, QatConfig(weights="int4", noise=0.5)), 3)
    assert (one != two).any()


def test_with_noise_the_gradient_of_unquantized_weights_is_not_clipped():
    model = Layers(dtype="float64")
    config = QatConfig(weights=Integer(3, grain=WHOLE), observer=Percentile(80), noise=0.5)
    quantized = prepare(model, config)
    w, x = model.layers[0].weight, inputs(7, 64)
    with quantized.active(0):
        seen = model.layers[0].weight.data
        model(Tensor(x)).sum().backward()
    left = (seen == w.data).reshape(-1, 32).all(axis=1).repeat(32).reshape(w.shape)
    outside = np.abs(w.data) > np.percentile(np.abs(w.data), 80) * 3.5 / 3
    assert 0.05 < outside.mean() < 0.2
    wanted = np.broadcast_to(x.sum(axis=0), w.shape) * (left | ~outside)
    assert difference(w.grad, wanted) <= 1e-12


# --- schedules ---------------------------------------------------------------------------------


def test_bits_are_lowered_step_by_step():
    model = Layers()
    schedule = LowerBits(2, 6, first=8)
    quantized = prepare(model, QatConfig(weights="int4", schedule=schedule))
    w = model.layers[0].weight.data
    for step, bits in enumerate([None, None, 8, 7, 6, 5, 4, 4]):
        wanted = w if bits is None else Integer(bits).quantize(w).dequantize()
        assert np.array_equal(weights_at(quantized, step)[0], wanted), step


def test_learned_steps_keep_their_range_while_bits_are_lowered():
    model = Layers()
    config = QatConfig(weights="int4", gradient="learnable", schedule=LowerBits(0, 4, first=8))
    found = weights_at(prepare(model, config), 0)[0]
    wanted = Integer(8).quantize(model.layers[0].weight.data).dequantize()
    assert found == pytest.approx(wanted, abs=1e-5)


def test_matrices_are_quantized_one_after_the_other():
    model = Layers(4)
    quantized = prepare(model, QatConfig(weights="int4", schedule=MoreMatrices(1, 5)))
    for step, count in enumerate([0, 0, 1, 2, 3, 4, 4]):
        changed = [
            (found != layer.weight.data).any()
            for found, layer in zip(weights_at(quantized, step), model.layers, strict=True)
        ]
        assert changed == [True] * count + [False] * (4 - count), step


def test_a_plain_schedule_starts_at_its_end():
    model = Layers()
    quantized = prepare(model, QatConfig(weights="q4_0", schedule=Schedule(0, 3)))
    w = model.layers[0].weight.data
    changed = [(weights_at(quantized, step)[0] != w).any() for step in range(5)]
    assert changed == [False, False, False, True, True]


def test_what_is_exported_does_not_follow_the_schedule():
    model = Layers()
    config = QatConfig(weights="int4", schedule=LowerBits(10, 20), noise=0.1)
    quantized = prepare(model, config)
    wanted = Integer(4).quantize(model.layers[0].weight.data).dequantize()
    with quantized.exported():
        assert np.array_equal(model.layers[0].weight.data, wanted)


@pytest.mark.parametrize(("begin", "end"), [(-1, 3), (4, 3)])
def test_a_schedule_that_ends_before_it_begins_is_refused(begin, end):
    with pytest.raises(ConfigError, match=f"a schedule from step {begin} to {end}"):
        Schedule(begin, end)


# --- inputs ------------------------------------------------------------------------------------

ASYMMETRIC = Integer(8, False, WHOLE)


def rounded(x, low, high, form=ASYMMETRIC):
    """x in the integers of `form` between low and high, in float64 from the definition."""
    low, high = min(low, 0), max(high, 0)
    scale = (high - low) / (2**form.bits - 1)
    zero = np.rint(-low / scale)
    return (np.clip(np.rint(x / scale) + zero, 0, 2**form.bits - 1) - zero) * scale


def test_ranges_of_inputs_are_those_of_the_steps_before():
    model = Layers(dtype="float64")
    quantized = prepare(
        model, QatConfig(weights={}, activations=ASYMMETRIC, activation_momentum=0.25)
    )
    w = model.layers[0].weight.data
    low = high = None
    for step in range(4):
        micro = [inputs(7, 64, seed=2 * step + i) * (1 + step) for i in range(2)]
        with quantized.active(step):
            found = [model(Tensor(x)).data for x in micro]
        for x, y in zip(micro, found, strict=True):
            ends = (x.min(), x.max()) if low is None else (low, high)
            assert difference(y, rounded(x, *ends) @ w.T) <= 1e-6
        step_low, step_high = min(x.min() for x in micro), max(x.max() for x in micro)
        low = step_low if low is None else low + 0.25 * (step_low - low)
        high = step_high if high is None else high + 0.25 * (step_high - high)


def test_the_gradient_of_an_input_out_of_range_is_zero():
    model = Layers(dtype="float64")
    quantized = prepare(model, QatConfig(weights={}, activations=ASYMMETRIC))
    with quantized.active(0):
        model(Tensor(inputs(7, 64)))
    low, high = inputs(7, 64).min(), inputs(7, 64).max()
    step = (high - low) / 255
    x = Tensor(inputs(7, 64, seed=2) * 2, requires_grad=True)
    with quantized.active(1):
        model(x).sum().backward()
    outside = (x.data < low - 1.01 * step) | (x.data > high + 1.01 * step)
    inside = (x.data > low + 1.01 * step) & (x.data < high - 1.01 * step)
    assert outside.any()
    assert not x.grad[outside].any()
    assert x.grad[inside].all()


def test_looking_at_the_exported_model_changes_no_range():
    model = Layers()
    quantized = prepare(model, QatConfig(weights="int8", activations=ASYMMETRIC))
    with quantized.active(0):
        model(Tensor(inputs(7, 64).astype(np.float32)))
    before = {name: array.copy() for name, array in quantized.state().items()}
    with quantized.exported():
        model(Tensor(100 * inputs(7, 64).astype(np.float32)))
    after = quantized.state()
    assert before.keys() == after.keys() == {
        "qat.layers.0.weight.input_low", "qat.layers.0.weight.input_high"
    }  # fmt: skip
    assert all(np.array_equal(before[name], after[name]) for name in before)


def test_inputs_that_are_not_finite_leave_the_ranges_alone():
    model = Layers()
    quantized = prepare(model, QatConfig(weights={}, activations=ASYMMETRIC))
    with quantized.active(0):
        model(Tensor(np.full((2, 64), np.nan, np.float32)))
    assert quantized.state() == {}


# --- state -------------------------------------------------------------------------------------

LEARNED = QatConfig(
    weights="uint4", gradient="learnable", activations=ASYMMETRIC, activation_momentum=0.2
)


def train(model, quantized, optimizer, steps):
    losses = []
    for step in steps:
        optimizer.zero_grad()
        with quantized.active(step):
            x = Tensor(inputs(7, 64, seed=step).astype(np.float32))
            loss = ops.mse(model(x), Tensor(np.roll(x.data, 1, axis=1)))
            loss.backward()
        optimizer.step(0.05)
        losses.append(loss.item())
    return losses


def test_a_run_that_is_resumed_goes_on_to_the_bit():
    def start():
        model = Layers(2)
        quantized = prepare(model, LEARNED)
        return model, quantized, AdamW({**model.named_parameters(), **quantized.parameters()})

    model, quantized, optimizer = start()
    train(model, quantized, optimizer, range(3))
    saved = [
        {name: array.copy() for name, array in arrays.items()}
        for arrays in (
            {n: p.data for n, p in model.named_parameters().items()},
            quantized.state(),
            optimizer.state(),
        )
    ]
    wanted = train(model, quantized, optimizer, range(3, 6))
    model, quantized, optimizer = start()
    for name, parameter in model.named_parameters().items():
        parameter.data[...] = saved[0][name]
    quantized.restore(saved[1])
    optimizer.restore(saved[2], 3)
    assert train(model, quantized, optimizer, range(3, 6)) == wanted


def test_the_state_before_the_first_step_can_be_restored():
    quantized = prepare(Layers(), LEARNED)
    quantized.restore(quantized.state())
    assert not [name for name in quantized.state() if ".input_" in name]


@pytest.mark.parametrize(
    "change",
    [
        lambda state: state.pop("qat.layers.0.weight.zero"),
        lambda state: state.pop("qat.layers.0.weight.input_low"),
        lambda state: state.update({"qat.layers.9.weight.zero": np.zeros(64)}),
        lambda state: state.update({"qat.layers.0.weight.zero": np.zeros(3)}),
    ],
)
def test_the_state_of_another_config_is_refused(change):
    model = Layers()
    quantized = prepare(model, LEARNED)
    with quantized.active(0):
        model(Tensor(inputs(7, 64).astype(np.float32)))
    state = dict(quantized.state())
    change(state)
    with pytest.raises(CheckpointError, match="the quantization is of another config"):
        quantized.restore(state)


def test_errors_are_those_of_what_is_stored():
    model = Layers()
    quantized = prepare(model, QatConfig(weights="int3"))
    w = model.layers[0].weight.data.astype(np.float64)
    noise = w - Integer(3).quantize(model.layers[0].weight.data).dequantize()
    wanted = 10 * np.log10((w**2).sum() / (noise**2).sum())
    assert quantized.errors()["layers.0.weight"].sqnr_db == pytest.approx(wanted)
