"""Calibration and the cost of formats, from their definitions."""

import numpy as np
import pytest

from entrenar_common.errors import ConfigError, NumericsError
from entrenar_core.autograd import no_grad, ops
from entrenar_core.qat import (
    QatConfig,
    calibrate,
    choose,
    matrices,
    options_of,
    prepare,
    ranges_of,
    sensitivities,
    squared_gradients,
)
from entrenar_core.quant import FORMATS, Grain, Integer, Percentile
from entrenar_core.testing import difference, tiny_model

SIZES = {
    "llama": {"hidden_size": 64, "intermediate_size": 96},
    "gpt2": {"n_embd": 64, "n_inner": 96},
}
BATCHES = [np.random.default_rng(i).integers(0, 61, (2, 7)) for i in range(3)]
KINDS = pytest.mark.parametrize("kind", SIZES)
ASYMMETRIC = Integer(8, False, Grain("tensor"))


def model_of(kind="llama", **options):
    return tiny_model(kind, **{**SIZES[kind], **options})


def loss_of(model, ids):
    return ops.linear_cross_entropy(
        model.hidden(ids), model.output_weight, np.roll(ids, -1, 1), normalizer=ids.size
    )


def total_loss(model):
    with no_grad():
        return float(np.mean([loss_of(model, ids).item() for ids in BATCHES]))


def seen_by(model, name):
    """What the projection called `name` is given, by listening to it alone."""
    owner = model
    for part in name.split(".")[:-1]:
        owner = owner[int(part)] if part.isdigit() else getattr(owner, part)
    arrays = []

    def listen(x):
        arrays.append(x.data.reshape(-1, x.shape[-1]))
        return x

    owner.on_input = listen
    with no_grad():
        for ids in BATCHES:
            model.hidden(ids)
    owner.on_input = None
    return arrays


@KINDS
def test_ranges_and_moments_are_those_of_all_that_a_projection_is_given(kind):
    model = model_of(kind)
    found = calibrate(model, BATCHES, run=model.hidden)
    assert {n for n, m in matrices(model).items() if not (m.embedding or m.head)} == found.keys()
    for name, statistics in found.items():
        x = np.concatenate(seen_by(model, name)).astype(np.float64)
        wanted = ASYMMETRIC.parameters(
            np.array([x.min()], np.float32), np.array([x.max()], np.float32)
        )
        assert np.array_equal(statistics.range.parameters(), wanted)
        assert difference(statistics.mean_squares, (x**2).mean(axis=0)) <= 1e-6


def test_the_input_of_the_gated_layer_is_what_is_multiplied():
    model = model_of()
    name = "model.layers.0.mlp.down_proj.weight"
    gate, up = (
        np.concatenate(seen_by(model, f"model.layers.0.mlp.{part}_proj.weight"))
        @ matrices(model)[f"model.layers.0.mlp.{part}_proj.weight"].parameter.data.T
        for part in ("gate", "up")
    )
    wanted = gate / (1 + np.exp(-gate)) * up
    assert difference(np.concatenate(seen_by(model, name)), wanted) <= 1e-5


def test_an_observer_and_a_momentum_are_used():
    model = model_of()
    name = "model.layers.0.self_attn.q_proj.weight"
    form, observer = Integer(8, grain=Grain("tensor")), Percentile(95)
    found = calibrate(model, BATCHES, run=model.hidden, form=form, observer=observer, momentum=0.5)
    ends = [np.percentile(np.abs(x), 95) for x in seen_by(model, name)]
    wanted = 0.5 * (0.5 * (ends[0] + ends[1]) + ends[2])
    assert found[name].range.parameters()[0] == pytest.approx(wanted / 127, rel=1e-5)


def test_calibrated_ranges_are_those_a_quantized_model_starts_with():
    model = model_of()
    found = calibrate(model, BATCHES, run=model.hidden)
    quantized = prepare(model, QatConfig(weights="q8_0", activations=ASYMMETRIC))
    quantized.take_ranges(ranges_of(found))
    for name, statistics in found.items():
        assert np.array_equal(quantized.state()[f"qat.{name}.input_low"], statistics.range.low)
    with pytest.raises(ConfigError, match="no range for the input of model"):
        quantized.take_ranges({})


def test_inputs_in_8_bits_after_calibration_change_the_loss_little():
    model = model_of()
    before = total_loss(model)
    quantized = prepare(model, QatConfig(weights={}, activations=ASYMMETRIC))
    quantized.take_ranges(ranges_of(calibrate(model, BATCHES, run=model.hidden)))
    with quantized.exported():
        after = total_loss(model)
    assert 0 < abs(after - before) < 0.02 * before


def test_calibration_leaves_the_model_as_it_was():
    model = model_of()

    def fails(ids):
        model.hidden(ids)
        raise KeyError

    with pytest.raises(KeyError):
        calibrate(model, BATCHES, run=fails)
    assert model.model.layers[0].mlp.down_proj.on_input is None


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda m: calibrate(m, [], run=m.hidden), ConfigError, "no batch to calibrate with"),
        (
            lambda m: squared_gradients(m, [], loss=lambda ids: loss_of(m, ids)),
            ConfigError,
            "no batch to calibrate with",
        ),
        (lambda m: sensitivities(m, ["q4_0"], names=["x"]), ConfigError, "no matrix x"),
    ],
)
def test_what_makes_no_sense_is_refused(call, error, message):
    with pytest.raises(error, match=message):
        call(model_of())


def test_inputs_that_are_not_finite_are_an_error():
    model = model_of()
    model.model.embed_tokens.weight.data[...] = np.nan
    with pytest.raises(NumericsError, match="is nan"):
        calibrate(model, BATCHES, run=model.hidden)


def test_squared_gradients_are_the_mean_over_batches_and_leave_no_gradient():
    model = model_of()
    found = squared_gradients(model, BATCHES, loss=lambda ids: loss_of(model, ids))
    assert all(p.grad is None for p in model.parameters())
    wanted = dict.fromkeys(found, 0.0)
    for ids in BATCHES:
        loss_of(model, ids).backward()
        for name, matrix in matrices(model).items():
            wanted[name] = wanted[name] + matrix.parameter.grad.astype(np.float64) ** 2 / 3
            matrix.parameter.grad = None
    assert found.keys() == matrices(model).keys()
    for name, array in found.items():
        assert difference(array, wanted[name]) <= 1e-5


@KINDS
def test_every_line_says_what_storing_one_matrix_does(kind):
    model = model_of(kind)
    statistics = calibrate(model, BATCHES, run=model.hidden)
    gradients = squared_gradients(model, BATCHES, loss=lambda ids: loss_of(model, ids))
    rows = sensitivities(
        model, ["q4_0", "int3"], inputs=statistics, gradients=gradients,
        loss=lambda: total_loss(model),
    )  # fmt: skip
    assert [(r.name, r.form) for r in rows] == [
        (name, form) for name in matrices(model) for form in ("q4_0", "int3")
    ]
    before = total_loss(model)
    for row in rows:
        matrix = matrices(model)[row.name]
        w = matrix.parameter.data
        turned = w.T if matrix.output_axis else w
        stored = FORMATS[row.form].quantize(turned)
        delta = turned.astype(np.float64) - stored.dequantize()
        assert row.nbytes == stored.nbytes
        assert row.error.relative == pytest.approx(np.linalg.norm(delta) / np.linalg.norm(w))
        fisher = gradients[row.name].T if matrix.output_axis else gradients[row.name]
        assert row.by_gradient == pytest.approx((delta**2 * fisher).sum() / 2, rel=1e-4)
        if row.name in statistics:
            each = statistics[row.name].mean_squares
            wanted = (delta**2 @ each).sum() / (turned.astype(np.float64) ** 2 @ each).sum()
            assert row.output_error == pytest.approx(wanted, rel=1e-4)
        else:
            assert row.output_error is None
        kept = w.copy()
        w[...] = stored.dequantize().T if matrix.output_axis else stored.dequantize()
        assert row.loss_change == pytest.approx(total_loss(model) - before, abs=1e-6)
        w[...] = kept
    assert total_loss(model) == before


def test_the_output_error_is_what_independent_inputs_would_see():
    model = model_of()
    name = "model.layers.0.mlp.down_proj.weight"
    statistics = calibrate(model, BATCHES, run=model.hidden)[name]
    (row,) = sensitivities(model, ["int3"], names=[name], inputs={name: statistics})
    w = matrices(model)[name].parameter.data
    rng = np.random.default_rng(0)
    x = rng.standard_normal((20_000, w.shape[1])) * np.sqrt(statistics.mean_squares)
    delta = w - FORMATS["int3"].quantize(w).dequantize()
    wanted = np.square(x @ delta.T).mean() / np.square(x @ w.T).mean()
    assert row.output_error == pytest.approx(wanted, rel=0.05)


def test_a_format_that_does_not_fit_a_matrix_is_left_out():
    rows = sensitivities(model_of(), ["q4_k", "q4_0"], names=["lm_head.weight"])
    assert [row.form for row in rows] == ["q4_0"]


@pytest.mark.tier2
def test_a_mix_under_a_limit_costs_less_than_one_format_of_that_size():
    model = model_of()
    gradients = squared_gradients(model, BATCHES, loss=lambda ids: loss_of(model, ids))
    rows = sensitivities(model, ["q4_0", "q5_0", "q8_0"], gradients=gradients)
    options = options_of(rows)
    five = sum(row.nbytes for row in rows if row.form == "q5_0")
    found = choose(options, five)
    alone = sum(row.by_gradient for row in rows if row.form == "q5_0")
    assert found.nbytes <= five
    assert found.lower_bound <= found.cost < alone
    quantized = prepare(model, QatConfig(weights=found.formats))
    assert {n: s.form.name for n, s in quantized.stored().items()} == found.formats
    assert sum(s.nbytes for s in quantized.stored().values()) == found.nbytes
